"""Data sets, which reading this room registers, and the data module that hands out their batches."""

from snn_exp.data import digits, events, torchvision
from snn_exp.data.base import DATASETS

__all__ = ["DATASETS", "digits", "events", "torchvision"]
