"""Imports go one way, and what reads results needs no torch."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "snn_exp"

# A file imports only files above it. A folder is one place: its files, and then, under its own name, what they
# show to the rest (__init__.py).
ORDER = [
    "allocator",
    "escaping",
    "errors",
    "interrupts",
    "command_line",
    "files_read",
    "stored",
    "registry",
    "splits",
    "footprint",
    "shares",
    "dynamics",
    "surrogates",
    "neurons.neuron",
    "neurons.integrating",
    "neurons.srm",
    "neurons.parallel",
    "neurons.single_step",
    "neurons",
    "synapses",
    "norms.norm",
    "norms.standard",
    "norms.psp",
    "norms.spiking",
    "norms",
    "weights",
    "layers",
    "stream",
    "blocks",
    "networks",
    "stacking",
    "lockstep",
    "dataflow",
    "ac_only",
    "checkpointing",
    "compiling",
    "encodings",
    "camera",
    "datasets",
    "digits",
    "events",
    "loading",
    "optim",
    "menu",
    "rules",
    "config",
    "interpolations",
    "override_faults",
    "overrides",
    "hydra_tree",
    "config_files",
    "compose",
    "ownership",
    "results",
    "same_data",
    "saved_weights",
    "filters",
    "stats",
    "report",
    "runs",
    "cells",
    "plan",
    "preflight",
    "progress",
    "launch",
    "study",
    "ledger",
    "comparison",
    "tables",
    "search",
    "campaign",
    "scope",
    "claims",
    "canvas",
    "figures",
    "study_report",
    "documents",
    "copies",
    "dashboard",
    "catalogue",
    "energy",
    "task",
    "probe",
    "kernels.build",
    "kernels.forms",
    "kernels.layout",
    "kernels.on_cpu",
    "kernels.passes",
    "kernels.on_gpu",
    "kernels.filtered",
    "kernels.fused",
    "kernels.choice",
    "kernels",
    "tracking",
    "mirror",
    "callbacks",
    "resuming",
    "processes",
    "train",
    "recall",
    "fold",
    "integer",
    "export.reading",
    "export.onnx_graph",
    "export.nir_graph",
    "export.nir_steps",
    "export.weights",
    "export.exporting",
    "export",
    "inspection",
    "diagnosis",
    "commands.parsing",
    "commands.hydra_flags",
    "commands.training",
    "commands.reporting",
    "commands.inspecting",
    "commands.recalling",
    "commands",
    "cli",
]

TORCH_FREE = ["errors", "escaping", "interrupts", "command_line", "files_read", "stored", "registry", "menu", "rules", "config", "interpolations", "override_faults", "overrides", "hydra_tree", "config_files", "compose", "ownership", "results", "same_data", "filters", "stats", "report", "runs", "cells",
              "plan", "progress", "launch", "catalogue", "study", "ledger", "comparison", "tables", "search", "campaign", "scope",
              "claims", "canvas", "figures", "study_report", "documents", "copies", "dashboard",
              "splits", "footprint", "preflight"]  # fmt: skip


def imports(source: str) -> list[tuple[str, int]]:
    """Modules imported when the file is loaded; those inside functions or for types only do not count."""
    found = []
    pending: list[ast.stmt | ast.ExceptHandler] = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.module == "snn_exp":
                found += [(f"snn_exp.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((node.module or "", node.lineno))
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for_types_only = isinstance(node, ast.If) and ast.unparse(node.test) in (
                "TYPE_CHECKING",
                "typing.TYPE_CHECKING",
            )
            below = node.orelse if isinstance(node, ast.If) and for_types_only else ast.iter_child_nodes(node)
            pending += [child for child in below if isinstance(child, ast.stmt | ast.ExceptHandler)]
    return found


def our_imports(source: str) -> list[tuple[str, int]]:
    """Those of the package, named as in ORDER."""
    return [(m.removeprefix("snn_exp."), line) for m, line in imports(source) if m.startswith("snn_exp.")]


def wrong_directions(name: str, source: str) -> list[str]:
    return [
        f"{name} imports snn_exp.{module}, line {line}"
        for module, line in our_imports(source)
        if ORDER.index(module) >= ORDER.index(name) or reaches_into_a_folder(name, module)
    ]


def reaches_into_a_folder(name: str, module: str) -> bool:
    return "." in module and place(module) != place(name)


def place(module: str) -> str:
    return module.partition(".")[0]


def source_of(name: str) -> str:
    path = PACKAGE / name.replace(".", "/")
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def torch_imports(name: str, source: str) -> list[str]:
    heavy = {"torch", "torchvision", "pytorch_lightning", "torchmetrics", "wandb"}
    return [f"{name} imports {m}, line {line}" for m, line in imports(source) if m.partition(".")[0] in heavy]


def test_every_file_has_its_place_in_the_order() -> None:
    files = {f.relative_to(PACKAGE).with_suffix("") for f in PACKAGE.rglob("*.py")} - {Path("__init__")}
    modules = {".".join(f.parent.parts if f.stem == "__init__" else f.parts) for f in files}
    assert modules == set(ORDER) and len(modules) == len(ORDER)


def test_a_folder_is_one_place_and_comes_after_its_files() -> None:
    assert [name for name, files in groupby(ORDER, place) if list(files)[-1] != name] == []
    assert len(list(groupby(ORDER, place))) == len(set(map(place, ORDER)))


def test_a_file_imports_only_files_above_it() -> None:
    assert [w for name in ORDER for w in wrong_directions(name, source_of(name))] == []


def test_on_the_map_of_the_readme_it_does_as_well() -> None:
    rows = re.findall(r"^\| (`\w+(?:\.py|/)`.*?) \|", (PACKAGE.parent / "README.md").read_text(), re.MULTILINE)
    row_of = {name: row for row, files in enumerate(rows) for name in re.findall(r"`(\w+)(?:\.py|/)`", files)}
    assert set(row_of) == set(map(place, ORDER))
    wrong = [
        f"{name} imports {module}, which stands below it"
        for name in ORDER
        for module, _ in our_imports(source_of(name))
        if row_of[place(module)] > row_of[place(name)]
    ]
    assert wrong == []


def test_the_reading_side_imports_no_torch_by_itself_or_through_others() -> None:
    for name in TORCH_FREE:
        source = source_of(name)
        assert torch_imports(name, source) == []
        ours = {module for module, _ in our_imports(source)}
        assert ours <= set(TORCH_FREE), f"{name} reads {ours - set(TORCH_FREE)}"


def test_a_wrong_import_is_found() -> None:
    assert wrong_directions("norms", "from snn_exp.networks import ResNet") == [
        "norms imports snn_exp.networks, line 1"
    ]
    assert wrong_directions("norms", "from snn_exp import train") == ["norms imports snn_exp.train, line 1"]
    for name, module in (("neurons.srm", "neurons"), ("neurons.srm", "neurons.parallel"), ("norms", "neurons.srm")):
        assert wrong_directions(name, f"import snn_exp.{module}") == [f"{name} imports snn_exp.{module}, line 1"]
    assert wrong_directions("neurons.srm", "from snn_exp.neurons.neuron import Neuron") == []
    assert torch_imports("report", "import os\nimport torch.nn") == ["report imports torch.nn, line 2"]
    hidden = "try:\n    pass\nexcept OSError:\n    import torch\nif TYPE_CHECKING:\n    import torch\nelse:\n    import wandb"
    assert torch_imports("report", hidden) == ["report imports wandb, line 8", "report imports torch, line 4"]
    assert torch_imports("report", "if not TYPE_CHECKING:\n    import torch") == ["report imports torch, line 2"]
    assert torch_imports("report", "def f():\n    import torch") == []


def test_nothing_is_called_by_name_from_a_config() -> None:
    word = "_tar" + "get_"
    configs = PACKAGE.parent / "configs"
    files = [*configs.rglob("*.yaml"), *PACKAGE.rglob("*.py")]
    assert [str(f) for f in files if word in f.read_text()] == []
