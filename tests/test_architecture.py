"""Rooms import only rooms below them, and what reads results needs no torch.

The first is a contract in pyproject.toml, which `make check` runs; here it is only seen that the contract is whole.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "snn_exp"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
ROOMS: list[str] = CONTRACTS[0]["layers"]

TORCH_FREE = (
    "errors",
    "escaping",
    "waiting",
    "files",
    "plugins",
    "registry",
    "config",
    "metrics.data_movement",
    "metrics.energy",
    "runs",
    "reporting",
    "sweeps",
    "training.preflight",
    "studies",
    "cli",
)
HEAVY_COMMANDS = ("cli.network_tables", "cli.machine")  # `show` and `doctor` import them once they have parsed

# `eval`, `fold`, `export`, `predict`, `show` and the Python API but for `train` do without these, and without Lightning
TRAINS = (
    "callbacks", "checkpoints", "ddp", "evaluation", "job", "loading", "mirror", "peeking", "prepare", "progress",
    "seeds", "task", "trackers", "train", "verify", "wandb_logger", "watchers",
)  # fmt: skip


def imports(source: str) -> list[tuple[str, int]]:
    """Modules imported when the file is loaded; those inside functions or for types only do not count."""
    found = []
    pending: list[ast.stmt | ast.ExceptHandler] = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for_types_only = isinstance(node, ast.If) and ast.unparse(node.test) in (
                "TYPE_CHECKING",
                "typing.TYPE_CHECKING",
            )
            below = node.orelse if isinstance(node, ast.If) and for_types_only else ast.iter_child_nodes(node)
            pending += [child for child in below if isinstance(child, ast.stmt | ast.ExceptHandler)]
    return found


def is_torch_free(name: str) -> bool:
    """Whether a module, or a name in one, may be read where there is no torch."""
    return any(f"{name}.".startswith(f"{free}.") for free in TORCH_FREE) and not any(
        f"{name}.".startswith(f"{heavy}.") for heavy in HEAVY_COMMANDS
    )


def sources() -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        yield name, file.read_text()


LIGHTNING = frozenset({"pytorch_lightning", "lightning_fabric", "lightning", "torchmetrics"})
HEAVY = LIGHTNING | {"torch", "torchvision", "wandb"}


def heavy_imports(name: str, source: str, heavy: frozenset[str] = HEAVY) -> list[str]:
    return [f"{name} imports {m}, line {line}" for m, line in imports(source) if m.partition(".")[0] in heavy]


def test_the_contract_names_every_room() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__", "__main__"} == {room for layer in ROOMS for room in re.findall(r"\w+", layer)}


def test_the_page_on_contributing_lists_the_rooms_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert rows == [room for layer in ROOMS for room in re.findall(r"\w+", layer)]


def test_the_reading_side_imports_no_torch_by_itself_or_through_others() -> None:
    free = [(name, source) for name, source in sources() if is_torch_free(name)]
    assert {name.partition(".")[0] for name, _ in free} >= {
        "config",
        "runs",
        "metrics",
        "reporting",
        "sweeps",
        "studies",
    }
    for name, source in free:
        assert heavy_imports(name, source) == []
        ours = [m.removeprefix("snn_exp.") for m, _ in imports(source) if re.match(r"snn_exp\.[a-z]", m)]
        assert [module for module in ours if not is_torch_free(module)] == [], name


def test_what_trains_nothing_imports_no_lightning_by_itself_or_through_others() -> None:
    trains = tuple(f"snn_exp.training.{name}" for name in TRAINS)
    light = [(name, source) for name, source in sources() if f"snn_exp.{name}" not in trains]
    assert len(light) + len(trains) == len(list(sources()))
    for name, source in light:
        assert heavy_imports(name, source, LIGHTNING) == []
        assert [m for m, _ in imports(source) if f"{m}.".startswith(tuple(f"{each}." for each in trains))] == [], name


def test_a_wrong_import_is_found() -> None:
    assert heavy_imports("report", "import os\nimport torch.nn") == ["report imports torch.nn, line 2"]
    hidden = "try:\n    pass\nexcept OSError:\n    import torch\nif TYPE_CHECKING:\n    import torch\nelse:\n    import wandb"
    assert heavy_imports("report", hidden) == ["report imports wandb, line 8", "report imports torch, line 4"]
    assert heavy_imports("report", "if not TYPE_CHECKING:\n    import torch") == ["report imports torch, line 2"]
    assert heavy_imports("report", "def f():\n    import torch") == []
    assert heavy_imports("eval", "import torch\nimport torchmetrics", LIGHTNING) == [
        "eval imports torchmetrics, line 2"
    ]
    assert imports("from snn_exp.nn import norms") == [("snn_exp.nn.norms", 1)]
    assert not is_torch_free("nn.norms") and not is_torch_free("metrics.operations.dense_macs")
    assert is_torch_free("metrics.energy.joules") and is_torch_free("runs.folder.RunFolder")


def test_a_run_is_one_screen() -> None:
    text = (PACKAGE / "training" / "train.py").read_text()
    (run,) = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    assert run.end_lineno is not None
    assert text.count("\n") <= 250 and run.end_lineno - run.lineno < 60


def test_nothing_is_called_by_name_from_a_config() -> None:
    word = "_tar" + "get_"
    configs = PACKAGE.parent / "configs"
    files = [*configs.rglob("*.yaml"), *PACKAGE.rglob("*.py")]
    assert [str(f) for f in files if word in f.read_text()] == []
