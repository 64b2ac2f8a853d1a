"""A trained network without its norms, in int8, and in formats that others read.

fold.py           the network without its norms
folded_run.py     a run without its norms, compared with the trained one
addition_only.py  the multiplications that remain in it
int8/             a folded network with weights in int8
exporting.py      writes another format, reads it back, and keeps it only if equal
reading.py        the base of all formats: a reader that knows only the file, and the comparison
onnx_graph.py     samples -> logits as an ONNX graph, computed by onnxruntime
nir_graph.py      the NIR nodes of our parts, and what NIR cannot represent
nir_steps.py      a NIR file computed step by step
weights.py        safetensors: tensors and config, into a fresh network
metadata.py       what such a file says of itself
"""

from snn_exp.export.exporting import FORMATS, Exported, export_run, require_format
from snn_exp.export.weights import load_exported

__all__ = ["FORMATS", "Exported", "export_run", "load_exported", "require_format"]
