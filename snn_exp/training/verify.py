"""A trained network back from its folder: loaded, evaluated on other data, trained again and compared."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from snn_exp.config.experiment import ExperimentConfig, LoggerConfig
from snn_exp.errors import UserError
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import Norm
from snn_exp.reporting.summary import choices, stored_results
from snn_exp.runs.folder import RunFolder, find_run
from snn_exp.runs.same_data import require_split, require_test
from snn_exp.studies.results import Row, disagreement
from snn_exp.training import train
from snn_exp.training.saved_weights import first_difference, load_weights, read_weights
from snn_exp.training.task import Classification


def load(run: str | Path) -> Classification:
    """The trained network of a run: call it on pixels in [0, 1] for logits; `.network` is what reads spikes.

    Built from the stored config and the weights in safetensors form; nothing is unpickled.

    Args:
        run: a run id, the beginning of one, or a run's folder.

    Raises:
        UserError: there is no such run, or its weights are missing or damaged; the data are others than it was trained
            on.
    """
    folder = find_run(str(run))
    config = folder.trained_config()
    return train.load_task(folder, config, train.build_data(config)).eval()


def evaluate(folder: RunFolder, config: ExperimentConfig) -> dict[str, float]:
    """The test metrics of a run's weights under another config of data and encoding.

    Raises:
        UserError: the weights are missing, damaged or of another network; the run was trained on other data, if no
            others are asked for; the data have another number of channels or classes than the network reads and gives;
            a part of it was trained for another number of steps.
    """
    trained = folder.trained_config()
    data = train.build_data(config)
    if config.dataset == trained.dataset:
        same_steps = config.num_steps == trained.num_steps or not data.dataset.has_time
        dataset = (data if same_steps else train.build_data(trained)).dataset
        require_split(folder, dataset.fingerprint)
        require_test(folder, dataset.test_fingerprint)
    task = train.build_task(config, data)
    again = train.how_to_train_again(folder)
    weights = read_weights(folder.weights, again)
    if first_difference(task.network.state_dict(), weights) is not None:
        _say_why_it_does_not_fit(folder, config, trained, train.Seen.of(data), weights)
    load_weights(task.network, folder.weights, again)
    return train.evaluate(task, data)


def _say_why_it_does_not_fit(
    folder: RunFolder,
    config: ExperimentConfig,
    trained: ExperimentConfig,
    seen: train.Seen,
    weights: Mapping[str, Tensor],
) -> None:
    """Raises a UserError if the steps or the data of the config are to blame, and not the weights."""
    run, num_steps = folder.path.name, trained.num_steps
    wanted = train.assemble(config, seen).network
    with_its_steps = dataclasses.replace(config, encoding={**config.encoding, "num_steps": num_steps})
    fitting = train.assemble(with_its_steps, seen).network
    difference = first_difference(wanted.state_dict(), weights)
    if config.num_steps != num_steps and first_difference(fitting.state_dict(), weights) is None:
        part = _part_of_another_form(wanted, fitting, trained)
        raise UserError(
            f"{part} of run {run} was trained for {num_steps} steps and its parameters depend on their number, so it "
            f"cannot be evaluated with encoding.num_steps={config.num_steps}; type encoding.num_steps={num_steps}"
        )
    if config.dataset != trained.dataset:
        raise UserError(
            f"the network of run {run} does not fit dataset={config.dataset['name']}: {difference}; choose data of the "
            f"same channels and classes"
        )


def _part_of_another_form(network: Network, other: Network, config: ExperimentConfig) -> str:
    """The choice that made the first part in which two networks differ."""
    ours, theirs = ({name: value.shape for name, value in n.state_dict().items()} for n in (network, other))
    name = next(name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name))
    parts = name.split(".")[:-1]
    modules = dict((network if name in ours else other).named_modules())
    owners = [modules[".".join(parts[:depth])] for depth in range(len(parts), 0, -1)]
    for owner in owners:
        for kind, group in ((Norm, "norm"), (Neuron, "neuron")):
            if isinstance(owner, kind):
                return f"{group}={getattr(config, group)['name']}"
    return f"network={config.network['name']}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a run that was trained again says of the stored one.

    Args:
        finding: bitwise equal, within tolerance, or different.
        reasons: why it is not bitwise equal.
    """

    finding: str
    reasons: tuple[str, ...] = ()


def verify(folder: RunFolder, config: ExperimentConfig) -> Verdict:
    """Trains a finished run again, elsewhere, and compares.

    Bitwise equal: every weight and metric. Otherwise it is different on the same machine, versions and code; on others
    it is within tolerance if the test accuracy lies within three standard deviations of the stored seeds, and the
    stored weights still give the stored validation accuracy.
    """
    stored = Row.of(folder)
    assert stored is not None
    data = train.build_data(config)
    train.load_task(folder, config, data)  # before the work: the data are the same, and the weights are there
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
        return Verdict("bitwise equal")
    if stored.execution.get("trainer", {}).get("vectorized_seeds"):
        reasons.append("it trained in step with other seeds, which rounds otherwise than alone")
    same = all(getattr(stored, what) == getattr(again, what) for what in ("versions", "hardware", "execution", "code"))
    seeds = [r for r in stored_results() if choices(r.config) == choices(stored.result.config)]
    spread = [r.metrics["test/acc"] for r in seeds if "test/acc" in r.metrics]
    far = disagreement(stored, again, "test/acc", spread)
    forged = _not_of_these_weights(folder, config, metrics)
    reasons += [sentence for sentence in (far, forged) if sentence]
    return Verdict("different" if same or far or forged else "within tolerance", tuple(reasons))


def _as_it_was_done(stored: Row, config: ExperimentConfig) -> ExperimentConfig:
    """The config with the kernels of the stored run, the fused ones if they can be had here; logged nowhere."""
    used = stored.execution.get("trainer", {}).get("kernels", "reference")  # there were no others before

    def with_kernels(kernels: Literal["auto", "reference", "fused"]) -> ExperimentConfig:
        trainer = dataclasses.replace(config.trainer, kernels=kernels, vectorized_seeds=False)
        return dataclasses.replace(config, trainer=trainer, logger=LoggerConfig(name="none"))

    if used == "reference":
        return with_kernels("reference")
    fused = with_kernels("fused")  # auto is no synonym: it leaves out what is not known to pay
    try:
        train.kernels_of(fused)
    except UserError:
        return with_kernels("auto")
    return fused


def _differing_weights(a: RunFolder, b: RunFolder) -> str:
    if not b.weights.exists():
        return "that one run has none"
    ours, theirs = (read_weights(run.weights, train.how_to_train_again(run)) for run in (a, b))
    return next((n for n in ours if n not in theirs or not torch.equal(ours[n], theirs[n])), "")


def _not_of_these_weights(folder: RunFolder, config: ExperimentConfig, metrics: Mapping[str, float]) -> str:
    """A sentence if the stored weights do not give the stored validation accuracy."""
    data = train.build_data(config)
    found = train.evaluate(train.load_task(folder, config, data), data, split="val")["val/acc"]
    if abs(found - metrics["val/acc"]) <= 2 / len(data.dataset.val):  # a rounding may flip one image or two
        return ""
    return f"the stored weights give val/acc {found:.4f} and {metrics['val/acc']:.4f} is stored"
