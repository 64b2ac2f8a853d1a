"""Verify a finished run: train it again and compare."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from snn_exp.config.experiment import ExperimentConfig, LoggerConfig
from snn_exp.errors import UserError
from snn_exp.runs.choices import choices
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.row import Row, disagreement
from snn_exp.runs.same_data import require_test
from snn_exp.runs.store import stored_results
from snn_exp.training import train
from snn_exp.training.build import build_data, how_to_train_again, kernels_of, load_task
from snn_exp.training.saved_weights import read_weights
from snn_exp.training.scoring import evaluate


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The result of training a stored run again.

    Args:
        finding: bitwise equal, within tolerance, or different.
        reasons: why it is not bitwise equal.
    """

    finding: str
    reasons: tuple[str, ...] = ()


def verify(folder: RunFolder, config: ExperimentConfig) -> Reproduction:
    """Train a finished run again, in a temporary folder, and compare.

    Bitwise equal: every weight and metric. Otherwise it is different on the same machine, versions and code; on others
    it is within tolerance if the test accuracy lies within three standard deviations of the stored seeds, and the
    stored weights still give the stored validation accuracy.
    """
    stored = Row.of(folder)
    assert stored is not None
    data = build_data(config)
    load_task(folder, config, data)  # before the work: the data are the same, and the weights are there
    if folder.test_fingerprint() is not None:
        require_test(folder, data.dataset.test_fingerprint)
    with tempfile.TemporaryDirectory() as scratch:
        again_in = RunFolder(Path(scratch) / folder.path.name)
        train.run(_as_it_was_done(stored, config), echo=False, folder=again_in)
        again = Row.of(again_in)
        assert again is not None
        weights = _differing_weights(folder, again_in)
    metrics = stored.result.metrics
    differing = [k for k, v in again.result.metrics.items() if k in metrics and metrics[k] != v]
    reasons = [f"the weights differ in {weights}"] if weights else []
    reasons += [f"another {', '.join(sorted(differing))}"] if differing else []
    if not reasons:
        return Reproduction("bitwise equal")
    if stored.execution.get("trainer", {}).get("vectorized_seeds"):
        reasons.append("it was vectorized with other seeds, which rounds differently than training alone")
    same = all(getattr(stored, what) == getattr(again, what) for what in ("versions", "hardware", "execution", "code"))
    seeds = [r for r in stored_results() if choices(r.config) == choices(stored.result.config)]
    spread = [r.metrics["test/acc"] for r in seeds if "test/acc" in r.metrics]
    far = disagreement(stored, again, "test/acc", spread)
    forged = _not_of_these_weights(folder, config, metrics)
    reasons += [sentence for sentence in (far, forged) if sentence]
    return Reproduction("different" if same or far or forged else "within tolerance", tuple(reasons))


def _as_it_was_done(stored: Row, config: ExperimentConfig) -> ExperimentConfig:
    """Return the config with the kernels of the stored run, if they are available, and no logger."""
    used = stored.execution.get("trainer", {}).get("kernels", "reference")  # there were no others before

    def with_kernels(kernels: Literal["auto", "reference", "fused", "events"]) -> ExperimentConfig:
        trainer = dataclasses.replace(config.trainer, kernels=kernels, vectorized_seeds=False)
        return dataclasses.replace(config, trainer=trainer, logger=LoggerConfig(name="none"))

    if used == "reference":
        return with_kernels("reference")
    # auto differs: it leaves out kernels that are not known to be faster
    same = with_kernels("events" if used == "events" else "fused")
    try:
        kernels_of(same)
    except UserError:
        return with_kernels("auto")
    return same


def _differing_weights(a: RunFolder, b: RunFolder) -> str:
    if not b.weights.exists():
        return "that one run has none"
    ours, theirs = (read_weights(run.weights, how_to_train_again(run)) for run in (a, b))
    return next((n for n in ours if n not in theirs or not torch.equal(ours[n], theirs[n])), "")


def _not_of_these_weights(folder: RunFolder, config: ExperimentConfig, metrics: Mapping[str, float]) -> str:
    """Return a sentence if the stored weights do not give the stored validation accuracy."""
    data = build_data(config)
    found = evaluate(load_task(folder, config, data), data, split="val")["val/acc"]
    if abs(found - metrics["val/acc"]) <= 2 / len(data.dataset.val):  # a rounding may flip one image or two
        return ""
    return f"the stored weights give val/acc {found:.4f} and {metrics['val/acc']:.4f} is stored"
