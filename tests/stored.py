"""Run folders as training leaves them, with figures that are known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.runs.same_data import DataAtHand

COUNTS = {"ac": 1000.0, "xnor": 0.0, "mac": 100.0, "filter_mac": 0.0, "norm_mac": 0.0, "neuron_updates": 0.0}


def store(
    *overrides: str,
    acc: float | None = 0.9,
    status: str = "done",
    split: str = "f",
    epochs: Sequence[float] = (0.5, 0.8),
    work: float = 1.0,
    test: bool = True,
) -> RunFolder:
    """A folder of outputs/runs with result, manifest and metrics.csv.

    Args:
        overrides: of the run.
        acc: on the test set; None: it has none.
        status: done or diverged.
        split: fingerprint of its split.
        epochs: validation accuracy of each epoch.
        work: times COUNTS are the operations of a sample.
        test: whether it was to be tested.
    """
    return store_of(compose(["logger=none", *overrides]), acc, status, split, epochs, work, test)


def split_of(config: ExperimentConfig) -> str:
    """The fingerprint of a config's data, as a run has it that is to be taken for done."""
    found = DataAtHand().fingerprints(config, with_test=False)
    assert found is not None
    return found.split


def store_of(
    config: ExperimentConfig,
    acc: float | None = 0.9,
    status: str = "done",
    split: str = "f",
    epochs: Sequence[float] = (0.5, 0.8),
    work: float = 1.0,
    test: bool = True,
) -> RunFolder:
    """As `store`, of a config."""
    metrics = {"val/acc": 0.9, "val/loss": 0.1, "params": 10.0, "macs_dense": 1000.0}
    if acc is not None:
        counts = {f"test/synops_{k}{form}": work * v for k, v in COUNTS.items() for form in ("", "_trained")}
        metrics |= {"test/acc": acc, "test/firing_rate": 0.1, "test/synops_dense": 3000.0, **counts}
    layers = {when: {"firing_rate": [0.1, 0.2], "dead_channels": [0.0, 0.5]} for when in ("init", "trained")}
    result = Result(config.run_id, status, config.to_plain(), metrics if status == "done" else {}, 2.0, 1.0,
                    "2026-01-01T00:00:00+00:00", 1, split, layers if status == "done" else {})  # fmt: skip
    folder = RunFolder.of(config)
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "result.json").write_text(json.dumps(dataclasses.asdict(result)))
    manifest = {"config": config.to_plain(), "versions": {"torch": "2.0"}, "code": "c", "hardware": {"machine": "m"},
                "execution": {"trainer": {"test": test}}}  # fmt: skip
    (folder.path / "manifest.json").write_text(json.dumps(manifest))
    lines = ["epoch,train/loss,val/acc,val/firing_rate,val/firing_rate/a,val/firing_rate/b"]
    lines += [f"{number},{1 - acc:g},{acc:g},0.1,{0.1 * number:g},0.2" for number, acc in enumerate(epochs)]
    folder.metrics_csv.write_text("\n".join(lines) + "\n")
    return folder
