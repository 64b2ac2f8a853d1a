"""Experiments on spiking neural networks: PSP normalization, single-step S2NN, and what they are compared with.

From Python, with the words of the command line:

    build(overrides, data_spec)  the untrained network of a config, a torch module
    train(overrides)             one run, trained or found where it is stored: its result
    load(run)                    the trained network of a run
    predict(run, samples)        class, probability, spikes and energy of each sample
    measure(network, x)          firing rates, operations and energy of a network on a batch
    list_runs(filters)           the stored runs as a pandas DataFrame
    report(what, by, versus)     a comparison of stored runs, or of a study: table and files

What cannot be is refused with `UserError`, a sentence that says what to type. Nothing of torch is imported before the
first call.

Example:
    >>> import snn_exp
    >>> network = snn_exp.build("neuron=plif depth=d20", snn_exp.DataSpec(in_shape=(1, 8, 8), num_classes=10))
    >>> sum(parameter.numel() for parameter in network.parameters())
    269452
"""

from __future__ import annotations

import importlib
import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_exp.api import Measurement, Reported, build, list_runs, load, measure, predict, report, train
    from snn_exp.errors import UserError
    from snn_exp.runs.run_files import Result
    from snn_exp.training.build import DataSpec
    from snn_exp.training.predict import Prediction

# it warns, when Lightning imports it, that it cannot count what Triton computes where there is no Triton
logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)

try:
    __version__ = version("snn-exp")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "unknown"

__all__ = [
    "DataSpec", "Measurement", "Prediction", "Reported", "Result", "UserError",
    "build", "list_runs", "load", "measure", "predict", "report", "train",
]  # fmt: skip

_ELSEWHERE = {
    "DataSpec": "training.build",
    "Prediction": "training.predict",
    "Result": "runs.run_files",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
