"""A trained network in formats that others read, each read back and compared before it is kept.

reading.py      what every format has: a reader that knows the file alone, and the comparison
onnx_graph.py   samples -> logits as an ONNX graph, computed by onnxruntime
nir_graph.py    what our parts are called in NIR, and what it cannot say
nir_steps.py    a NIR file computed step by step
weights.py      safetensors: tensors and config, into a fresh network
exporting.py    writes, reads back, compares
"""

from snn_exp.export.exporting import FORMATS, Exported, export_run, require_format
from snn_exp.export.weights import load_exported

__all__ = ["FORMATS", "Exported", "export_run", "load_exported", "require_format"]
