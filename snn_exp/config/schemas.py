"""The menu: every registered part's schema, traits and one line, readable without torch.

It is read off the registries once and kept beside the byte code (`__pycache__/menu.json`) until a
source file changes, of this package or of an installed plugin (`snn_exp.plugins`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_exp.plugins import installed, load_plugins, plugins_hash
from snn_exp.registry import Below, Option, Parameter, Registry, Scalar
from snn_exp.waiting import working

# kind -> (module, name of its registry), in the order in which people read a config
REGISTRIES = {
    "dataset": ("snn_exp.data", "DATASETS"),
    "augment": ("snn_exp.data.augment", "AUGMENTS"),
    "encoding": ("snn_exp.nn.encodings", "ENCODINGS"),
    "network": ("snn_exp.nn.networks", "NETWORKS"),
    "residual": ("snn_exp.nn.blocks", "RESIDUALS"),
    "neuron": ("snn_exp.nn.neurons", "NEURONS"),
    "surrogate": ("snn_exp.nn.surrogates", "SURROGATES"),
    "synapse": ("snn_exp.nn.synapses", "SYNAPSES"),
    "norm": ("snn_exp.nn.norms", "NORMS"),
    "weight_norm": ("snn_exp.nn.weights", "WEIGHT_NORMS"),
    "weight_quant": ("snn_exp.nn.weights", "WEIGHT_QUANTS"),
    "init": ("snn_exp.nn.init", "INITS"),
    "optim": ("snn_exp.training.optim", "OPTIMS"),
}

Menu = Mapping[str, Mapping[str, Option]]  # kind -> name -> option


@functools.cache
def load() -> Menu:
    """Return the menu, from the cache if no source file has changed since it was written."""
    source = _source_hash()
    if source is None:
        return _read_registries()
    cache = Path(__file__).parents[1] / "__pycache__" / "menu.json"
    try:
        stored = json.loads(cache.read_text(encoding="utf-8"))
        if stored["source"] == source:
            return _from_plain(stored["menu"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing, torn or of an older form: read it anew
    menu = _read_registries()
    _write_quietly(cache, {"source": source, "menu": _to_plain(menu)})
    return menu


def registry_of(kind: str) -> Registry[Any]:
    """Return the registry of a kind; import its module."""
    module, name = REGISTRIES[kind]
    registry: Registry[Any] = getattr(importlib.import_module(module), name)
    return registry


def option_of(config: Mapping[str, Any], group: str) -> Option:
    """Return the facts on the option that a composed config has in a group."""
    return load()[group][config[group]["name"]]


def trait_of(config: Mapping[str, Any], group: str, trait: str) -> Any:
    """Return a trait of that option."""
    return option_of(config, group).traits[trait]


def defaults_of(group: str, name: str) -> dict[str, Scalar]:
    """Return the group of a config where an option has its defaults."""
    return {"name": name} | {p.name: p.default for p in load()[group][name].parameters}


def _read_registries() -> Menu:
    with working("reading what can be chosen, which takes some seconds once"):
        load_plugins()
        return {kind: registry_of(kind).options() for kind in REGISTRIES}


def _source_hash() -> str | None:
    """Return the hash that the cache is good for; None if a plugin cannot be hashed."""
    plugins = plugins_hash() if installed() else ""
    if plugins is None:
        return None
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files) + plugins.encode()).hexdigest()


def _write_quietly(path: Path, content: object) -> None:
    """Write the cache; if that fails, only time is lost."""
    try:
        path.parent.mkdir(exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(content), encoding="utf-8")
        scratch.replace(path)
    except OSError:
        pass


def _to_plain(menu: Menu) -> dict[str, Any]:
    return {
        kind: {name: dataclasses.asdict(option) for name, option in options.items()} for kind, options in menu.items()
    }


def _from_plain(plain: dict[str, Any]) -> Menu:
    def option(o: dict[str, Any]) -> Option:
        parameters = tuple(Parameter(**{**p, "choices": tuple(p["choices"])}) for p in o["parameters"])
        constraints = tuple(Below(**c) for c in o["constraints"])
        return Option(**{**o, "parameters": parameters, "constraints": constraints})

    return {kind: {name: option(o) for name, o in options.items()} for kind, options in plain.items()}
