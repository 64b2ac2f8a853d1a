"""A trained network in formats that others read, each read back and compared before it is kept.

reading.py      the base of all formats: a reader that knows only the file, and the comparison
onnx_graph.py   samples -> logits as an ONNX graph, computed by onnxruntime
nir_graph.py    the NIR nodes of our parts, and what NIR cannot represent
nir_steps.py    a NIR file computed step by step
weights.py      safetensors: tensors and config, into a fresh network
exporting.py    writes, reads back, compares
"""

from snn_exp.export.exporting import FORMATS, Exported, export_run, require_format
from snn_exp.export.weights import load_exported

__all__ = ["FORMATS", "Exported", "export_run", "load_exported", "require_format"]
