"""What pytest leaves aside on this machine."""

from importlib.util import find_spec

# its doctests are looked for by importing it, and Triton is for Linux; tests/nn/test_triton.py says that it is skipped
collect_ignore = [] if find_spec("triton") else ["snn_exp/nn/kernels/passes.py"]
