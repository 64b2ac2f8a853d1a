"""Load a trained network from its folder, or evaluate it on other data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from snn_exp.config import schemas
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import Norm
from snn_exp.runs.find import find_run
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.same_data import require_split, require_test
from snn_exp.training import scoring
from snn_exp.training.build import DataSpec, assemble, build_data, build_task, facts_of, how_to_train_again, load_task
from snn_exp.training.classifier import Classifier
from snn_exp.training.samples import SampleCheck
from snn_exp.training.saved_weights import first_difference, load_weights, read_weights
from snn_exp.training.threads import threads_of


def load(run: str | Path) -> Classifier:
    """Load the trained network of a run: call it on pixels in [0, 1] for logits; `.network` reads spikes.

    Built from the stored config, the stored facts on the data and the weights in safetensors form; nothing is
    unpickled, and no data are read, except for a run of a version that stored no such facts. It takes torch tensors and
    numpy arrays, and refuses in a sentence what does not fit or is out of range; `.class_names` are those of the data.

    Args:
        run: a run id, the beginning of one, or a run's folder.

    Raises:
        UserError: there is no such run, or its weights are missing or damaged; the data differ from those it was
            trained on, where they have to be read.
    """
    task, _ = load_checked(find_run(str(run)))
    return task


def load_checked(folder: RunFolder) -> tuple[Classifier, SampleCheck]:
    """Load a trained network as `load` does, with the check that its samples pass."""
    config, facts = folder.trained_config(), folder.trained().data
    if facts is None:
        data = build_data(config)
        task, facts = load_task(folder, config, data), facts_of(data)
    else:
        seen = DataSpec(tuple(facts["in_shape"]), facts["num_classes"], facts["pixel_mean"], facts["pixel_std"])
        task = assemble(config, seen)
        load_weights(task.network, folder.weights, how_to_train_again(folder))
    traits = schemas.load()["dataset"][str(config.dataset["name"])].traits
    num_steps = config.num_steps if traits["has_time"] else None
    check = SampleCheck(folder.path.name, tuple(facts["in_shape"]), num_steps, traits["is_series"])
    task.class_names = tuple(facts.get("class_names", ()))
    task.register_forward_pre_hook(check)
    return task.eval(), check


def evaluate(folder: RunFolder, config: ExperimentConfig) -> dict[str, float]:
    """Return the test metrics of a run's weights under another config of data and encoding.

    Raises:
        UserError: the weights are missing, damaged or of another network; the run was trained on other data
            although its own are asked for; the number of channels or classes of the data does not match the network;
            a part of it was trained for another number of time steps.
    """
    trained = folder.trained_config()
    data = build_data(config)
    if config.dataset == trained.dataset:
        same_steps = config.num_steps == trained.num_steps or not data.dataset.has_time
        dataset = (data if same_steps else build_data(trained)).dataset
        require_split(folder, dataset.fingerprint)
        require_test(folder, dataset.test_fingerprint)
    task = build_task(config, data)
    again = how_to_train_again(folder)
    weights = read_weights(folder.weights, again)
    if first_difference(task.network.state_dict(), weights) is not None:
        _say_why_it_does_not_fit(folder, config, trained, DataSpec.of(data), weights)
    load_weights(task.network, folder.weights, again)
    with threads_of(config):
        return scoring.evaluate(task, data)


def _say_why_it_does_not_fit(
    folder: RunFolder,
    config: ExperimentConfig,
    trained: ExperimentConfig,
    seen: DataSpec,
    weights: Mapping[str, Tensor],
) -> None:
    """Raise a UserError if the number of steps or the data of the config is the cause, and not the weights."""
    run, num_steps = folder.path.name, trained.num_steps
    wanted = assemble(config, seen).network
    with_its_steps = dataclasses.replace(config, encoding={**config.encoding, "num_steps": num_steps})
    fitting = assemble(with_its_steps, seen).network
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
    """Return the choice, such as norm=psp, behind the first part in which two networks differ."""
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
