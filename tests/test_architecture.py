"""Imports go one way, and what reads results needs no torch."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "snn_exp"

# A file imports only files above it.
ORDER = [
    "errors",
    "registry",
    "dynamics",
    "surrogates",
    "neurons",
    "synapses",
    "norms",
    "weights",
    "layers",
    "networks",
    "encodings",
    "camera",
    "datasets",
    "events",
    "loading",
    "optim",
    "menu",
    "config",
    "compose",
    "results",
    "report",
    "progress",
    "catalogue",
    "energy",
    "task",
    "tracking",
    "callbacks",
    "train",
    "inspection",
    "diagnosis",
    "cli",
]

TORCH_FREE = ["errors", "registry", "menu", "config", "compose", "results", "report", "progress", "catalogue"]


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


def wrong_directions(name: str, source: str) -> list[str]:
    return [
        f"{name}.py imports {module}, line {line}"
        for module, line in imports(source)
        if module.startswith("snn_exp.") and ORDER.index(module.split(".")[1]) >= ORDER.index(name)
    ]


def torch_imports(name: str, source: str) -> list[str]:
    heavy = {"torch", "torchvision", "pytorch_lightning", "torchmetrics", "wandb"}
    return [f"{name}.py imports {m}, line {line}" for m, line in imports(source) if m.partition(".")[0] in heavy]


def test_every_file_has_its_place_in_the_order() -> None:
    assert sorted(f.stem for f in PACKAGE.glob("*.py") if f.stem != "__init__") == sorted(ORDER)


def test_a_file_imports_only_files_above_it() -> None:
    assert [w for name in ORDER for w in wrong_directions(name, (PACKAGE / f"{name}.py").read_text())] == []


def test_the_reading_side_imports_no_torch_by_itself_or_through_others() -> None:
    for name in TORCH_FREE:
        source = (PACKAGE / f"{name}.py").read_text()
        assert torch_imports(name, source) == []
        ours = {module.split(".")[1] for module, _ in imports(source) if module.startswith("snn_exp.")}
        assert ours <= set(TORCH_FREE), f"{name} reads {ours - set(TORCH_FREE)}"


def test_a_wrong_import_is_found() -> None:
    assert wrong_directions("norms", "from snn_exp.networks import ResNet") == [
        "norms.py imports snn_exp.networks, line 1"
    ]
    assert wrong_directions("norms", "from snn_exp import train") == ["norms.py imports snn_exp.train, line 1"]
    assert torch_imports("report", "import os\nimport torch.nn") == ["report.py imports torch.nn, line 2"]
    hidden = "try:\n    pass\nexcept OSError:\n    import torch\nif TYPE_CHECKING:\n    import torch\nelse:\n    import wandb"
    assert torch_imports("report", hidden) == ["report.py imports wandb, line 8", "report.py imports torch, line 4"]
    assert torch_imports("report", "if not TYPE_CHECKING:\n    import torch") == ["report.py imports torch, line 2"]
    assert torch_imports("report", "def f():\n    import torch") == []


def test_nothing_is_called_by_name_from_a_config() -> None:
    word = "_tar" + "get_"
    configs = PACKAGE.parent / "configs"
    files = [*configs.rglob("*.yaml"), *PACKAGE.rglob("*.py")]
    assert [str(f) for f in files if word in f.read_text()] == []
