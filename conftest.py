"""What pytest leaves aside on this machine."""

from importlib.util import find_spec

# doctests are looked for by importing: Triton is for Linux, as tests/nn/test_triton.py says, and Optuna is an extra
collect_ignore = [] if find_spec("triton") else ["snn_exp/nn/kernels/passes.py"]
collect_ignore += (
    [] if find_spec("optuna") else [f"snn_exp/sweeps/{name}.py" for name in ("journal", "trials", "winners")]
)
