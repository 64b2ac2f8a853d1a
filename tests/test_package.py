"""The package from outside: its version, and ways to start it."""

from __future__ import annotations

import runpy
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
def test_the_package_runs_as_a_module(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["snn-exp", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("snn-exp ")
