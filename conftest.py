"""What pytest leaves aside on this machine, and where an example in a docstring writes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

# doctests are looked for by importing: Triton is for Linux, as tests/nn/test_triton.py says, and Optuna is an extra
collect_ignore = [] if find_spec("triton") else ["snn_exp/nn/kernels/passes.py"]
collect_ignore += (
    []
    if find_spec("optuna")
    else [f"snn_exp/sweeps/{name}.py" for name in ("journal", "pruning", "shown", "trials", "winners")]
)


@pytest.fixture(scope="session")
def output_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the output folder of all examples, so that the run that several of them show is trained once."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(autouse=True)
def _output_of_an_example(
    request: pytest.FixtureRequest, output_of_examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.setenv("SNN_EXP_OUTPUT", str(output_of_examples))
