"""What a build refuses, a config refuses before: generated combinations, values without sense, damaged data."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from snn_exp.cli import main
from snn_exp.config import footprint, processor, schemas, sizes, splits
from snn_exp.config.compose import compose
from snn_exp.config.experiment import GROUPS, ExperimentConfig, resolve
from snn_exp.data.base import DATASETS, OfficialTest, make_dataset
from snn_exp.data.digits import Digits, read_digits
from snn_exp.data.split import Split
from snn_exp.errors import UserError
from snn_exp.registry import Parameter, Scalar
from snn_exp.training import preflight
from snn_exp.training.build import DataSpec, assemble

# of the generated combinations; by hand: SNN_EXP_COMBINATIONS=5000 pytest tests/training/test_preflight.py
COUNT = int(os.environ.get("SNN_EXP_COMBINATIONS", "100"))
SEED = int(os.environ.get("SNN_EXP_COMBINATIONS_SEED", "0"))
CHUNKS = 4

SMALL: dict[str, list[Scalar]] = {
    "network.width": [1, 2, 3, 4, 8],
    "encoding.num_steps": [None, 1, 2, 3, 5],
    "optim.batch_size": [1, 2, 3, 32, 32],
    "dataset.size": [1, 2, 3, 6, 10],
    "dataset.num_train": [None, None, 10, 11, 200],
}
DEPTHS = {"resnet": [8, 8, 8, 14, 9], "vgg": [3, 4, 4, 5, 5], "mlp": [1, 2, 2, 3, 3]}


def a_value(rng: random.Random, p: Parameter) -> Scalar:
    """A value that is allowed by itself, often one at the end of its range."""
    if p.optional and rng.random() < 0.3:
        return None
    if p.type == "bool":
        return rng.random() < 0.5
    if p.type == "choice":
        return rng.choice(p.choices)
    if p.type == "str":
        return p.default
    if p.type == "int":
        return int(p.ge or 0) + rng.choice([0, 0, 1, 2, 3, 7])
    low = p.gt if p.gt is not None else p.ge if p.ge is not None else -2.0
    high = p.lt if p.lt is not None else p.le if p.le is not None else low + 4
    ends = (low + 1e-6 * (p.gt is not None), high - 1e-6 * (p.lt is not None))
    return float(rng.choice([*ends, low + 0.25 * (high - low), low + 0.5 * (high - low)]))


MENU = schemas.load()
NAMES = {kind: [name for name, option in MENU[kind].items() if not option.traits.get("own")] for kind in MENU}
AUTO = ("surrogate", "synapse", "weight_quant", "encoding", "augment")
TRIES = 8


def said_well(refusal: UserError) -> bool:
    return "\n" not in str(refusal) and any(word in str(refusal) for word in ("type ", "must be", "leave"))


def one_part(rng: random.Random, kind: str, name: str, c: dict[str, Any]) -> dict[str, Any]:
    """An option of a kind with values, most of them its defaults, and what is chosen together with it."""
    values: dict[str, Any] = {"name": name}
    for p in MENU[kind][name].parameters if name != "auto" else ():
        free = SMALL.get(f"{kind}.{p.name}")
        values[p.name] = rng.choice(free) if free else a_value(rng, p) if rng.random() < 0.2 else p.default
    part = {kind: values}
    if kind == "neuron":
        num_steps = None if MENU[kind][name].traits["single_step"] else rng.choice(SMALL["encoding.num_steps"])
        part["encoding"] = c["encoding"] | {"num_steps": num_steps}
    elif kind == "encoding":
        values["num_steps"] = c["encoding"]["num_steps"]
    elif kind == "network":
        part["depth"] = {"num_layers": rng.choice(DEPTHS[name])}
    return part


def a_combination(index: int, base: dict[str, Any]) -> tuple[dict[str, Any], list[UserError], int]:
    """A config that is accepted, made one group after the other, in any order, from one that is.

    Every option has its turn as the first that is tried for its group; one that is refused is tried with other values, then
    others are tried.

    Returns:
        The config, the refusals on the way to it, and how many options were tried.
    """
    rng = random.Random(SEED * 1_000_003 + index)
    c = base | {"init": {"name": "kaiming"}} | {kind: {"name": "auto"} for kind in AUTO}
    c["encoding"]["num_steps"] = None
    c["trainer"] = base["trainer"] | {
        "kernels": "reference",
        "precision": rng.choice(["32-true", "32-true", "64-true", "bf16-mixed"]),
        "checkpoint_activations": rng.random() < 0.2,
        "channels_last": rng.random() < 0.2,
    }
    refusals: list[UserError] = []
    num_tried = 0
    for kind in rng.sample(list(MENU), len(MENU)):
        names = NAMES[kind] + ["auto"] * (kind in AUTO)
        name = names[(index + len(kind)) % len(names)]
        for attempt in range(TRIES):
            num_tried += 1
            tried = c | one_part(rng, kind, name if attempt < 3 else rng.choice(names), c)
            try:
                resolve(tried)
            except UserError as refusal:
                refusals.append(refusal)
            else:
                c = tried
                break
    return c, refusals, num_tried


def train_one_step(config: ExperimentConfig) -> None:
    """Builds the network, moves its weights once and reads it in eval."""
    traits = schemas.load()["dataset"][str(config.dataset["name"])].traits
    shape = sizes.sample_shape(config.to_plain())
    assert shape is not None
    torch.manual_seed(0)  # whichever tests ran before in this process
    shape = (shape[0], min(shape[1], 10), min(shape[2], 10))  # 10 for speed: halved twice it is odd
    task = assemble(config, DataSpec(shape, traits["num_classes"], 0.3, 0.3)).train()
    batch_size = min(2, int(config.optim["batch_size"] or 1))  # a last batch of one is left out otherwise
    x = torch.rand(batch_size, *((config.num_steps,) if traits["has_time"] else ()), *shape)
    if config.trainer.precision == "64-true":
        task, x = task.double(), x.double()
    optimizer, schedule = task.optim.build(task.network, 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed"):
        logits = task(x)
        loss = functional.cross_entropy(logits.float(), torch.zeros(batch_size, dtype=torch.long))
    loss.backward()
    assert logits.isfinite().all()
    if config.num_steps <= 16:  # through 150 steps of a series a steep surrogate's gradient may leave float32
        assert all(p.grad is None or p.grad.isfinite().all() for p in task.network.parameters())
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        task.eval()(x)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_a_config_accepts_can_be_built_and_trained(chunk: int) -> None:
    base = compose([]).to_plain()
    for index in range(chunk, COUNT, CHUNKS):
        combination, refusals, _ = a_combination(index, base)
        assert [refusal for refusal in refusals if not said_well(refusal)] == []
        try:
            train_one_step(resolve(combination))
        except Exception as error:
            typed = {group: combination[group] for group in GROUPS if group not in ("logger", "energy")}
            raise AssertionError(f"accepted, and then {error!r}: combination {index} is {typed}") from error


def test_the_generated_configs_have_every_option_and_few_draws_are_in_vain() -> None:
    base, made, num_tried, num_refused = compose([]).to_plain(), [], 0, 0
    for index in range(COUNT):
        combination, refusals, tried = a_combination(index, base)
        made.append(combination)
        num_tried, num_refused = num_tried + tried, num_refused + len(refusals)
    assert num_refused < 0.5 * num_tried, "the generator has become wasteful"
    never = {f"{kind}={name}" for kind in NAMES for name in NAMES[kind]} - {
        f"{kind}={c[kind]['name']}" for c in made for kind in NAMES
    }
    assert never == set(), "options that no config has"
    for choice in ("optim.loss", "optim.schedule", "optim.width_schedule", "neuron.reset", "network.readout"):
        group, _, key = choice.partition(".")
        allowed = {
            value for name in NAMES[group] for p in MENU[group][name].parameters if p.name == key for value in p.choices
        }
        assert allowed <= {c[group].get(key) for c in made}, choice


@pytest.mark.parametrize("index", range(24))
def test_an_embedded_data_set_is_refused_by_the_config_if_by_its_constructor(index: int, tmp_path: Path) -> None:
    rng = random.Random(index)
    name = ("digits", "digits_200", "digits", "digits_clutter")[index % 4]
    fractions = [1e-3, 5e-3, 6e-3, 0.01, 0.1, 0.25, 0.4, 0.6, 0.9, 0.97, 0.983, 0.985, 0.99, 0.995]
    given: dict[str, Scalar] = {
        "name": name,
        "val_fraction": rng.choice(fractions),
        "test_fraction": rng.choice(fractions),
    }
    if name == "digits_200" or index % 8 > 4:
        given["num_train"] = rng.choice([3, 10, 11, 19, 30, 200, 700, 1400])
    try:
        config = resolve(compose([]).to_plain() | {"dataset": given})
    except UserError as refusal:
        with pytest.raises(UserError) as refused:
            make_dataset(given, tmp_path, 0, 1)
        assert str(refused.value) == str(refusal), "in the same words"
        return
    data = make_dataset(config.dataset, tmp_path, 0, 1)
    assert sum(splits.training_counts(type(data).class_counts or (), config.dataset)) == len(data.train)


def test_the_sizes_that_a_config_goes_by_are_those_of_the_data(tmp_path: Path) -> None:
    counts = tuple(np.bincount(read_digits()[1]).tolist())
    for name in ("digits", "digits_200", "digits_clutter", "digits_dvs"):
        config = compose([f"dataset={name}"])
        data = make_dataset(config.dataset, tmp_path, 0, config.num_steps)
        assert type(data).class_counts == counts
        assert footprint.sample_shape(config.dataset, data.image_shape) == data.in_shape
        assert sizes.num_train(config.to_plain()) == len(data.train)


# values without sense -------------------------------------------------------------------------------------

NONSENSE = {
    "network.width=1000000000": "network.width must be at most 16384, or the weights between two layers take a GiB",
    "network.width=1e9": "network.width must be at most 16384, or the weights between two layers take a GiB",
    "encoding.num_steps=1000000000": "encoding.num_steps must be at most 10000, or each layer keeps every one",
    "dataset.max_shift=1000000": "dataset.max_shift must be at most 1024",
    "dataset.max_shift=8": "dataset.max_shift=8 shifts an image of 8 x 8 pixels out of view; type dataset.max_shift=2",
    "trainer.num_threads=20000": "trainer.num_threads must be at most 1024, or OpenMP ends the process",
    "trainer.max_epochs=1000000000": "trainer.max_epochs must be at most 100000, or the smallest run takes days",
    "trainer.devices=100000 optim.batch_size=100000": "trainer.devices must be at most 64",
    "depth.num_layers=600002": "depth.num_layers must be at most 10000",
    "optim.batch_size=10000000": "optim.batch_size must be at most 1000000",
    "dataset=digits_dvs dataset.size=100000": "dataset.size must be at most 1024",
    "dataset=digits_clutter dataset.copies=1000000": "dataset.copies must be at most 1000",
    "norm=group norm.num_groups=1000000": "norm.num_groups must be at most 65536",
    "neuron=sliding_psn neuron.order=1000000": "neuron.order must be at most 10000",
    "optim.lr=1e400": "optim.lr must be at most 1000, or the first step throws all weights away",
    "neuron.tau=1e400": "neuron.tau must be a finite float > 1",
    "optim.lr=nan": "optim.lr must be a finite float > 0",
    "optim.lr=1e9": "optim.lr must be at most 1000",
    "optim.lr=1e-300": "optim.lr must be 0 or of a size that float32 computes with, 1e-15 to 1e+15",
    f"optim.lr={'9' * 90}": "optim.lr must be at most 1000",
    f"seed={'9' * 90}": "seed=an int of 299 bits is not allowed: seed must be at most 4294967295",
    "neuron.v_reset=-1e30": "neuron.v_reset must be 0 or of a size that float32 computes with",
    "surrogate=atan surrogate.peak=1e9": "surrogate.peak must be at most 1000",
    "seed=4294967296": "seed=4294967296 is not allowed: seed must be at most 4294967295",
    "seed=-1": "seed=-1 is not allowed: seed must be an int >= 0; the default is seed=0",
    "dataset.split_seed=4294967296": "dataset.split_seed=4294967296 is not allowed: dataset.split_seed must be at most",
    "optim.beta1=1 optim=adamw": "optim.beta1 must be a float >= 0 and < 1",
    "optim=sgd optim.momentum=0": "optim.nesterov=True looks ahead along the velocity and optim.momentum=0.0 keeps none",
    "neuron.v_reset=1": "neuron.v_reset=1.0 is not below neuron.v_threshold=1.0, so a neuron at rest would fire",
    "norm=group network.width=12": "norm.num_groups=8 does not divide the 12 channels of network.width=12; "
    "type norm.num_groups=6, or network.width=16",
    "network=mlp residual=none neuron=s2nn optim.batch_size=1": "norm=bn takes the variance over T,B,H,W, and with "
    "network=mlp, encoding.num_steps=1, optim.batch_size=1 that is a single value, which has none; type "
    "optim.batch_size=2 or more",
    "network=mlp norm=bntt optim.batch_size=1": "norm=bntt takes the variance over B,H,W",
    "network=mlp norm=group network.width=8": "norm=group takes the variance over C/num_groups,H,W",
    "dataset.val_fraction=0.5 dataset.test_fraction=0.5": "leave nothing to train on; their sum must be below 1",
    "dataset.test_fraction=0.001": "with every class in both: each of the 10 classes needs one; type a larger "
    "dataset.test_fraction",
    "dataset=mnist dataset.val_fraction=0.0001": "60000 samples cannot be split into 59994 and 6 for validation",
    "dataset=digits_200 dataset.num_train=1069": "dataset.num_train=1069 is more than 1068",
    "dataset=digits_dvs dataset.amplitude=5": "dataset.amplitude=5.0 leaves no room for the digit in dataset.size=10",
    "trainer.devices=7 optim.batch_size=8": "the last batch of an epoch has 6 of the 1078 training samples",
    "trainer.precision=16-mixed trainer.accelerator=cpu": "trainer.precision=16-mixed needs a GPU",
    "network.width=16000 depth=d1202": "a training step would take at least",
    "dataset=cifar10 encoding.num_steps=10000 optim.batch_size=45000": "1,024 GiB are the limit; type a smaller",
}


@pytest.mark.parametrize("command", NONSENSE)
def test_a_value_without_sense_is_refused_with_its_limit(command: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(command.split())
    assert NONSENSE[command] in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_whole_number_that_no_float_holds_is_refused_from_a_file_as_well() -> None:
    with pytest.raises(UserError, match=r"neuron.tau=inf is not allowed: neuron.tau must be a finite float > 1"):
        resolve(compose([]).to_plain() | {"neuron": {"name": "lif", "tau": 10**5000}})


def test_the_largest_values_that_make_sense_are_taken() -> None:
    config = compose(["seed=4294967295", "dataset.split_seed=4294967295", "trainer.num_threads=1024"])
    assert config.seed == 2**32 - 1
    assert compose(["dataset.max_shift=7", "network.width=2", "norm=group", "norm.num_groups=2"]).network["width"] == 2


def test_options_print_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["options", "trainer=default"]) == 0
    assert ">= 1 and <= 1024" in " ".join(capsys.readouterr().out.split())


def test_the_memory_of_a_step_is_never_put_too_high() -> None:
    config = compose(["network.width=8", "depth=d20", "trainer.kernels=reference"])
    needed = sizes.least_memory(config.to_plain())
    assert needed is not None
    task = assemble(config, DataSpec((1, 8, 8), 10, 0.0, 1.0)).train()
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = task(torch.rand(32, 1, 8, 8)).sum()
    assert loss.requires_grad
    weights = 4 * 4 * sum(p.numel() for p in task.network.parameters())
    assert 0.2 * sum(kept.values()) < needed.activations < sum(kept.values())
    assert 0.6 * weights < needed.weights < 1.1 * weights


# plan and this machine ------------------------------------------------------------------------------------


def test_plan_refuses_a_teacher_that_is_not_there_as_train_does(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["neuron=s2nn", "network.width=4", "logger=none", "teacher=0123456789"]
    assert main.main(["plan", *line]) == 2
    planned = capsys.readouterr().err
    assert "teacher=0123456789 is not a run in" in planned
    assert main.main(["train", *line]) == 2
    assert capsys.readouterr().err.split(": ", 1)[1] in planned


def test_plan_refuses_what_this_machine_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.accelerator.is_available():
        pytest.skip("it has a GPU")
    assert main.main(["plan", "-m", "trainer.precision=16-mixed,32-true"]) == 2
    said = capsys.readouterr()
    assert "trainer.precision=16-mixed needs a GPU" in said.err and "1 to run" in said.out
    assert main.main(["plan", "trainer.accelerator=gpu"]) == 2
    assert "torch finds no GPU on this machine" in capsys.readouterr().err


def test_what_will_hardly_be_meant_is_said_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few = compose(["dataset=digits_200", "dataset.num_train=20"])
    assert preflight.warnings([few]) == [
        "optim.batch_size=32 is more than the 20 training samples of dataset=digits_200, so an epoch is one step"
    ]
    monkeypatch.setattr(footprint, "machine_memory", lambda: 2**20)
    (sentence,) = preflight.warnings([compose([])])
    assert "a training step takes at least" in sentence and "this machine has 0.0 GiB" in sentence


def test_bfloat16_on_a_processor_without_it_is_said_once_with_the_factor_and_not_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    asked = ["plan", "-m", "trainer.precision=bf16-mixed,32-true", "seed=0,1"]
    for computes, times in ((True, 0), (False, 1)):
        monkeypatch.setattr(processor, "computes_in_bfloat16", lambda computes=computes: computes)
        assert main.main(asked) == 0
        said = capsys.readouterr().err
        assert said.count("no instructions for bfloat16") == said.count("12 times as long as in float32") == times
    in_bfloat16 = compose(["trainer.precision=bf16-mixed"])
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert preflight.warnings([in_bfloat16]) == [], "a GPU has its own"


# damaged data ---------------------------------------------------------------------------------------------


class Damaged(OfficialTest):
    """What a test puts into it."""

    whole: Split

    def _read(self, *, train: bool) -> Split:
        return self.whole


def images(num_samples: int = 100) -> torch.Tensor:
    return torch.rand(num_samples, 1, 4, 4, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(100) % 10


def with_one(x: torch.Tensor, index: int, value: float) -> torch.Tensor:
    x = x.clone()
    x[index] = value
    return x


DAMAGES = {
    "more labels": (images(), torch.cat([LABELS, LABELS]), "it has 100 samples and 200 labels"),
    "fewer labels": (images(), LABELS[:90], "it has 100 samples and 90 labels"),
    "a class beyond": (images(), with_one(LABELS, 7, 12), "1 of 100 labels lie beyond the classes 0 to 9, the first of "
                       "them is class 12 of sample 7"),
    "a class below": (images(), with_one(LABELS, 3, -1), "is class -1 of sample 3"),
    "NaN": (with_one(images(), 5, float("nan")), LABELS, "sample 5, of class 5, has pixels that are NaN or infinite"),
    "all zero": (torch.zeros(100, 1, 4, 4), LABELS, "each of its values is 0, in all samples"),
    "bytes as floats": (255 * images(), LABELS, "as floats they should lie between 0 and 1"),
    "nothing": (images(0), LABELS[:0], "it has no samples"),
    "labels with a point": (images(), LABELS.float(), "its labels are torch.float32"),
    "a class of one": (images(91), LABELS[torch.arange(91)] % 9 + (torch.arange(91) == 90) * 9,
                       "class 9 has 1 of them and needs at least 2, one for each part"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_are_refused_before_training(damage: str, tmp_path: Path) -> None:
    samples, labels, sentence = DAMAGES[damage]

    class Given(Damaged):
        whole = Split(samples, labels)

    with pytest.raises(UserError) as refused:
        Given(tmp_path, 0, val_fraction=0.3)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_a_class_that_came_into_no_part_is_named_with_what_it_needs(tmp_path: Path) -> None:
    class Given(Damaged):
        whole = Split(images(), torch.where(torch.arange(100) < 2, 9, torch.arange(100) % 9))

    with pytest.raises(UserError, match=r"class 9 has 2 of 100 samples, and none .* the 15 of validation.* about 7;"):
        Given(tmp_path, 0, val_fraction=0.15)


def test_a_test_set_is_seen_to_be_whole_as_well(tmp_path: Path) -> None:
    class Given(Damaged):
        def _read(self, *, train: bool) -> Split:
            return Split(images(), LABELS if train else LABELS + 1)

    with pytest.raises(UserError, match=r"the test set is damaged: 10 of 100 labels lie beyond the classes 0 to 9"):
        _ = Given(tmp_path, 0, val_fraction=0.3).test


def test_digits_are_whole_and_known_by_what_is_typed(tmp_path: Path) -> None:
    assert DATASETS.name_of(Digits) == "digits"
    assert Digits(tmp_path, 0)._source(train=True) == "dataset=digits: the training set"
