"""The package from outside: its version, and ways to start it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import snn_exp
from snn_exp.cli.main import main


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert snn_exp.__version__ == version("snn-exp")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"snn-exp {snn_exp.__version__}\n"


@pytest.mark.parametrize("module", ["snn_exp", "snn_exp.cli"])
def test_the_package_runs_as_a_module(module: str) -> None:
    started = [sys.executable, "-m", module]
    said = subprocess.run([*started, "--version"], capture_output=True, text=True, check=True).stdout
    assert said == f"snn-exp {snn_exp.__version__}\n"
    refused = subprocess.run([*started, "trian"], capture_output=True, text=True)
    assert refused.returncode == 2 and "did you mean train?" in refused.stderr, "the exit code comes through"
