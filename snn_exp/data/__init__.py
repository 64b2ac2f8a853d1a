"""Data sets, registered by importing this package, and the data module that loads their batches."""

from snn_exp.data import digits, events, torchvision
from snn_exp.data.base import DATASETS

__all__ = ["DATASETS", "digits", "events", "torchvision"]
