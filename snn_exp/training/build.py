"""Data and network of a config. Nothing here trains, so none of it imports Lightning; `prepare.py` does."""

from __future__ import annotations

import dataclasses
from typing import Any

from snn_exp.config.experiment import ExperimentConfig, TrainerConfig
from snn_exp.data.augment import AUGMENTS
from snn_exp.data.base import make_dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.files import printable
from snn_exp.nn.activation_checkpointing import checkpoint_activations
from snn_exp.nn.encodings import ENCODINGS
from snn_exp.nn.init import INITS
from snn_exp.nn.kernels import MEMBRANE_NORM, Choice, add_where_spikes_are, choose, fuse
from snn_exp.nn.layers import PartFactories, lay_channels_last, make_part_factories
from snn_exp.nn.networks import build_network
from snn_exp.nn.neurons import NEURONS, Neuron
from snn_exp.nn.norms import NORMS
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.nn.synapses import SYNAPSES, Synapse
from snn_exp.registry import Registry
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import data_root
from snn_exp.runs.same_data import require_split
from snn_exp.training import auto
from snn_exp.training.classifier import Classifier
from snn_exp.training.optim import OPTIMS
from snn_exp.training.saved_weights import load_weights


def initialise(task: Classifier, config: ExperimentConfig, data: DataModule | None = None) -> None:
    """Set the weights of an untrained network as the config's group init says.

    Raises:
        UserError: they are set by a batch of the data, and there are no data.
    """
    init = INITS.make(config.init)
    if not init.reads_a_batch:
        init.initialise(task.network, None)
    elif data is None:
        raise UserError(
            f"init={config.init['name']} sets the weights by a batch of the data, and only the shape of the data is "
            f"given; leave data_spec out, or choose init=kaiming"
        )
    else:
        init.initialise(task.network, task.encoded(data.first_batch()[0], 0))


def build_data(config: ExperimentConfig) -> DataModule:
    """Build the data set, split by the seed, and its loaders."""
    dataset = make_dataset(config.dataset, data_root(), config.seed, config.num_steps)
    augment = AUGMENTS.make(config.augment, dataset.max_shift, dataset.flip)
    augment.require_channels(dataset.in_shape[0])
    return DataModule(dataset, int(config.optim["batch_size"] or 1), config.seed, augment)


def kernels_of(config: ExperimentConfig) -> Choice:
    """Choose the kernels of a run's norms and neurons, and build them if needed.

    Raises:
        UserError: trainer.kernels=fused or events, which cannot be used.
    """
    parts = _parts(config)
    return choose_kernels(config.trainer, parts.neuron((1, 1, 1)), parts.make_synapse())


def costs_of_own_parts(config: ExperimentConfig, kernels: Choice) -> list[str]:
    """Return a line for each part of a plugin that keeps a run, or itself, off the fused kernels."""
    registries: dict[str, Registry[Any]] = {
        "neuron": NEURONS, "surrogate": SURROGATES, "norm": NORMS, "synapse": SYNAPSES,
    }  # fmt: skip
    lines = []
    for group, registry in registries.items():
        part = f"{group}={config.to_plain()[group]['name']}"
        own = registry[part.partition("=")[2]].__module__.partition(".")[0]
        if own == "snn_exp":
            continue
        is_why = kernels.why == f"{part} has no fused form" or (group == "norm" and kernels.why == MEMBRANE_NORM)
        if kernels.used == "reference" and is_why:
            lines.append(
                f"{part} (of {own}) has no fused form, so this run takes the plain path, which is slower per step"
            )
        elif kernels.used != "reference" and group in ("norm", "synapse"):
            lines.append(
                f"{part} (of {own}) has no fused form, so it computes by itself beside the fused neurons, which is "
                f"slower per step"
            )
    return lines


def choose_kernels(trainer: TrainerConfig, neuron: Neuron, synapse: Synapse | None = None) -> Choice:
    """Choose the kernels that the trainer group asks for, as `nn.kernels.choose`."""
    return choose(
        neuron, synapse, kernels=trainer.kernels, accelerator=trainer.accelerator, precision=trainer.precision,
        devices=trainer.devices, compiled=trainer.compile,
    )  # fmt: skip


def _parts(config: ExperimentConfig) -> PartFactories:
    """Return what makes the parts of a config's network."""
    return make_part_factories(
        neuron=config.neuron, surrogate=config.surrogate, synapse=config.synapse, norm=config.norm,
        weight_norm=config.weight_norm, weight_quant=config.weight_quant, num_steps=config.num_steps,
    )  # fmt: skip


def build_task(config: ExperimentConfig, data: DataModule, kernels: Choice | None = None) -> Classifier:
    """Build the untrained network with its encoding, with the reference kernels unless others are given."""
    return assemble(config, DataSpec.of(data), kernels)


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The properties of a data set that a network is built for.

    Args:
        in_shape: (C, H, W) of one sample at one time step.
        num_classes: K.
        pixel_mean: mean of the training pixels, which the network subtracts.
        pixel_std: standard deviation of the training pixels, by which it divides.
    """

    in_shape: tuple[int, ...]
    num_classes: int
    pixel_mean: float = 0.0
    pixel_std: float = 1.0

    @classmethod
    def of(cls, data: DataModule) -> DataSpec:
        """Read them from a data set that is split by a seed."""
        d = data.dataset
        return cls(tuple(d.in_shape), d.num_classes, float(d.pixel_mean), float(d.pixel_std))


def assemble(config: ExperimentConfig, seen: DataSpec, kernels: Choice | None = None) -> Classifier:
    """Build what `build_task` does, without the data."""
    encoding = ENCODINGS.make(config.encoding, seen.pixel_mean, seen.pixel_std)
    network = build_network(
        config.network, _parts(config), in_shape=seen.in_shape, num_classes=seen.num_classes,
        num_layers=config.depth.num_layers, residual=config.residual,
    )  # fmt: skip
    used = "reference" if kernels is None else kernels.used
    if auto.layout(config, kernels).value or used == "events":
        lay_channels_last(network)
    if used != "reference":
        fuse(network, write_words=used == "events")
    if used == "events":
        add_where_spikes_are(network)
    if config.trainer.checkpoint_activations:
        checkpoint_activations(network.segments())
    return Classifier(network, encoding, OPTIMS.make(config.optim), seen.num_classes, config.seed)


def load_task(folder: RunFolder, config: ExperimentConfig, data: DataModule) -> Classifier:
    """Build the network of a finished run, with its encoding and its best weights.

    Raises:
        UserError: the data differ from those it was trained on; its weights are missing, damaged, or of another
            network.
    """
    require_split(folder, data.dataset.fingerprint)
    task = build_task(config, data)
    load_weights(task.network, folder.weights, how_to_train_again(folder))
    return task


def how_to_train_again(folder: RunFolder) -> str:
    """Say how to repair a finished run whose files are incomplete."""
    return f"train run {folder.path.name} again with --rerun"


def facts_of(data: DataModule) -> dict[str, Any]:
    """Return what must be known of the data to use the network without them: see `run_files.DataFacts`."""
    seen, names = DataSpec.of(data), data.dataset.class_names
    return {
        **dataclasses.asdict(seen),
        "in_shape": list(seen.in_shape),
        "class_names": [printable(name, 200) for name in names],  # which may be of folders, and so hold anything
    }
