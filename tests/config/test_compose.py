"""Every YAML composes and trains; what Hydra and we make of a command line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional

from snn_exp.config import composer, schemas
from snn_exp.config.compose import compose, compose_cells, read_command
from snn_exp.config.experiment import SETTINGS, EnergyConfig, ExperimentConfig
from snn_exp.config.hydra_setup import config_dir
from snn_exp.config.overrides import CHOICES
from snn_exp.data.base import make_dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.registry import parameters_of
from snn_exp.training.build import build_data, build_task, initialise
from tests.data.test_own_files import write_arrays, write_pictures
from tests.data.test_series import pair as write_series

OPTIONS = [(g, f.stem) for g in CHOICES for f in sorted((config_dir() / g).glob("*.yaml"))]
NEEDS = {
    "surrogate=none": ["neuron=relu"],
    "norm=psp": ["neuron=srm"],
    "norm=group": ["network.width=8"],
    "encoding=frames": ["dataset=digits_dvs"],
}
AUTO = ("augment", "encoding", "surrogate", "synapse", "weight_quant")
MODEL = (
    "augment",
    "neuron",
    "surrogate",
    "synapse",
    "norm",
    "weight_norm",
    "weight_quant",
    "init",
    "residual",
    "network",
    "encoding",
    "optim",
)


def overrides_of(group: str, name: str) -> list[str]:
    choice = f"{group}={name}"
    return [choice, *NEEDS.get(choice, [])]


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, n in OPTIONS if g not in MODEL])  # those of MODEL: below
def test_every_yaml_composes(group: str, name: str, tmp_path: Path) -> None:
    write = {"images": write_pictures, "arrays": write_arrays, "series": write_series}.get(name)
    path = [f"dataset.path={write(tmp_path / 'own.npz')}"] if write else []
    sweep = read_command([*overrides_of(group, name), *path], multirun=False)
    assert sweep.cells and all(cell.config for cell in sweep.cells), [cell.refusal for cell in sweep.cells]


@cache
def module(dataset: str, num_steps: int, root: Path) -> DataModule:
    return DataModule(make_dataset({"name": dataset}, root, 0, num_steps), 8, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def data_of(config: ExperimentConfig, root: Path) -> DataModule:
    return module(str(config.dataset["name"]), config.num_steps, root)


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, n in OPTIONS if g in MODEL])
def test_every_yaml_of_a_part_takes_a_training_step(group: str, name: str, root: Path) -> None:
    torch.manual_seed(0)
    config = compose(["network.width=4", *overrides_of(group, name)])
    data = build_data(config) if group == "augment" else data_of(config, root)
    task = build_task(config, data)
    initialise(task, config, data)
    optimizer, _ = task.optim.build(task.network, 10)
    x, y_B = next(iter(data.train_dataloader()))
    before = [p.clone() for p in task.network.parameters()]
    loss = functional.cross_entropy(task(x), y_B)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.network.parameters())
    assert any(not torch.equal(p, b) for p, b in zip(task.network.parameters(), before, strict=True))


@pytest.mark.parametrize("group", ["neuron", "norm", "residual", "synapse", "weight_norm", "weight_quant", "network"])
def test_the_options_of_a_model_group_give_different_modules(group: str, root: Path) -> None:
    trees = {}
    for name in schemas.load()[group]:
        config = compose(["network.width=8", "neuron=srm", *overrides_of(group, name)])
        task = build_task(config, data_of(config, root))
        trees[name] = repr(task.network)
    assert len(set(trees.values())) == len(trees)


def test_the_options_of_augment_show_different_images() -> None:
    """Two options, two different batches, and none of them the data as they are but `none`."""
    shown = {}
    for name in schemas.load()["augment"]:
        batches = build_data(compose([f"augment={name}"])).train_dataloader()
        shown[name] = next(iter(batches))[0].numpy().tobytes()
    assert len(set(shown.values())) == len(shown)


@pytest.mark.parametrize("group", list(schemas.REGISTRIES))
def test_the_registry_and_the_yaml_files_hold_the_same_names(group: str) -> None:
    files = {f.stem for f in (config_dir() / group).glob("*.yaml")}
    resolved_by_themselves = {"auto"} if group in AUTO else set()
    assert files == set(schemas.load()[group]) | resolved_by_themselves


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_a_yaml_has_a_line_on_what_it_is_and_repeats_no_default(group: str, name: str) -> None:
    text = (config_dir() / group / f"{name}.yaml").read_text()
    assert any(line.startswith("# ") and "@package" not in line for line in text.splitlines())
    content: dict[str, Any] = yaml.safe_load(text)
    option = schemas.load().get(group, {}).get(name)
    parameters = option.parameters if option else ()
    if group in SETTINGS and group != "energy":  # a profile of energy says all its constants
        parameters = parameters_of(SETTINGS[group])
    defaults = {p.name: p.default for p in parameters}
    assert [key for key, value in content.items() if key in defaults and defaults[key] == value] == []


def test_the_default_profile_is_the_one_that_the_code_has() -> None:
    assert compose([]).energy == compose(["energy=h45_fp32"]).energy == EnergyConfig()


@pytest.mark.parametrize("lacking", ["name", "mac_pj", "ac_pj", "xnor_fj", "weight_pj", "state_pj", "word_bits",
                                     "weight_bit_pj", "bit_pj", "compare_pj"])  # fmt: skip
def test_a_profile_that_lacks_a_constant_is_refused_and_nothing_fills_it_in(lacking: str, tmp_path: Path) -> None:
    files = ("h45_fp32_memory", "h45_fp32_onchip")
    contents = [yaml.safe_load((config_dir() / "energy" / f"{name}.yaml").read_text()) for name in files]
    content = next(of for of in contents if lacking in of)
    del content[lacking]
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "mine.yaml").write_text(yaml.safe_dump(content))
    name = content.get("name", "without a name")
    with pytest.raises(
        UserError, match=f"^the energy profile {name} lacks {lacking}, and a profile must say name, mac_"
    ):
        compose(["energy=mine"], [str(tmp_path)])


def test_a_profile_cannot_take_its_constants_from_a_schema(tmp_path: Path) -> None:
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "mine.yaml").write_text("defaults: [/schema/energy/default@_here_, _self_]\nname: mine\n")
    with pytest.raises(UserError, match=r"the config cannot be composed: .*schema/energy/default"):
        compose(["energy=mine"], [str(tmp_path)])


def test_an_experiment_can_set_the_root_seed_and_the_command_line_still_wins(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose(["experiment=mine"], [str(tmp_path)]).seed == 7
    assert compose(["experiment=mine", "seed=3"], [str(tmp_path)]).seed == 3
    assert compose(["experiment=mine"], [str(tmp_path)]).experiment == "mine"


def test_a_depth_may_be_typed_as_a_number() -> None:
    assert compose(["depth=110"]).depth.num_layers == 110
    depths = [c.config.depth.num_layers for c in read_command(["depth=8,d20"], multirun=True).cells if c.config]
    assert depths == [8, 20]


def test_a_sweep_expands_as_hydra_expands_it() -> None:
    sweep = read_command(["seed=range(3)", "neuron=lif,s2nn", "norm=bn"], multirun=True)
    found = [(c.config.seed, c.config.neuron["name"]) for c in sweep.cells if c.config]
    assert found == [(s, n) for s in range(3) for n in ("lif", "s2nn")]
    assert sweep.axes == ("seed", "neuron")


def test_the_command_line_wins_over_the_axes_of_an_experiment() -> None:
    sweep = read_command(["experiment=quick", "seed=5"], multirun=False)
    assert [c.config.seed for c in sweep.cells if c.config] == [5] * 5


def test_a_choice_on_the_command_line_wins_over_a_method() -> None:
    assert compose(["method=lif_bn", "norm=none"]).norm["name"] == "none"


def test_an_interpolation_is_resolved() -> None:
    assert compose(["seed=4", "dataset.split_seed=${seed}"]).dataset["split_seed"] == 4


def test_every_form_of_a_sweep_over_choices_expands() -> None:
    def cells(override: str, group: str) -> list[Any]:
        return [getattr(c.config, group) for c in read_command([override], multirun=True).cells]

    assert [d.num_layers for d in cells("depth=range(8,21,6)", "depth")] == [8, 14, 20]
    assert [d.num_layers for d in cells("depth=choice(8,d14)", "depth")] == [8, 14]
    assert [n["name"] for n in cells("neuron=glob(p*)", "neuron")] == ["plif", "psn"]


def test_an_axis_of_an_experiment_can_be_overridden_by_its_key() -> None:
    sweep = read_command(["experiment=quick", "hydra.sweeper.params.seed='1,2'"], multirun=False)
    assert [c.config.seed for c in sweep.cells if c.config] == [1, 2] * 5
    assert sweep.axes == ("method", "seed")


def test_cells_that_come_to_the_same_have_the_same_run_id() -> None:
    sweep = read_command(["trainer.num_threads=1,2"], multirun=True)
    assert len(sweep.cells) == 2
    assert len({c.config.run_id for c in sweep.cells if c.config}) == 1


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Hydra was asked to compose since."""
    asked: list[str] = []
    whole = composer.composed_by_hydra

    def asking(overrides: Any, *, with_hydra: bool) -> Any:
        asked.append(" ".join(o.input_line for o in overrides))
        return whole(overrides, with_hydra=with_hydra)

    monkeypatch.setattr(composer, "composed_by_hydra", asking)
    composer.cache_of.cache_clear()
    return asked


GRID = ["neuron=lif,srm,s2nn", "norm=bn,psp,none", "residual=pre,bireal", "seed=0,1"]


@pytest.mark.parametrize("wide", [[], ["method=srm_psp", "surrogate.width=2"]])
def test_a_grid_is_composed_option_by_option_to_the_same_configs(composed: list[str], wide: list[str]) -> None:
    cells = read_command([*wide, *GRID], multirun=True).cells
    assert len(composed) == 1 + 1 + 3 + 3 + 2, (
        "what is common, and each option; the first is what all share with Hydra's"
    )
    composer.cache_of.cache_clear()
    assert len(cells) == 36
    for cell in cells:
        (alone,) = compose_cells([cell.overrides])
        assert alone == cell


def test_an_option_that_speaks_of_another_group_is_composed_with_all_of_them(
    tmp_path: Path, composed: list[str]
) -> None:
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "wide.yaml").write_text(
        "# @package _global_\ndefaults: [/norm/bn@norm, _self_]\nneuron: {v_threshold: 0.5}\n"
    )
    sweep = read_command([*GRID[::2], "norm=bn,wide,none"], multirun=True, search=[str(tmp_path)])
    for cell in sweep.cells:
        assert cell.config is not None
        assert (cell.config.neuron["v_threshold"] == 0.5) == ("norm=wide" in cell.overrides)
    assert "neuron=lif residual=pre norm=wide" in composed and "neuron=lif residual=pre norm=bn" not in composed
