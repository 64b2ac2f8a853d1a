"""Data sets, registered by importing this package, and the data module that loads their batches."""

from snn_exp.data import arrays, digits, events, fashion_dvs, pictures, series, torchvision
from snn_exp.data.base import DATASETS

__all__ = ["DATASETS", "arrays", "digits", "events", "fashion_dvs", "pictures", "series", "torchvision"]
