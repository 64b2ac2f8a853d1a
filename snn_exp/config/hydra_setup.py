"""Make Hydra ready to compose: our folder of configs, a schema of every part, our loader. No torch."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_search_path import SearchPathElement
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from snn_exp.config import schemas
from snn_exp.config.config_files import COMMAND_LINE, BoundedLoader
from snn_exp.config.experiment import SETTINGS
from snn_exp.config.overrides import CONFIG_NAME
from snn_exp.errors import UserError
from snn_exp.registry import Parameter, parameters_of


def config_dir() -> Path:
    """Return the folder `configs`: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "configs"
    return beside if (beside / f"{CONFIG_NAME}.yaml").exists() else package / "configs"


def options_of(group: str) -> dict[str, Path | None]:
    """Return option -> its YAML file, of a config group; None where a part of a plugin has no file of its own."""
    found: dict[str, Path | None] = {file.stem: file for file in (config_dir() / group).glob("*.yaml")}
    return dict.fromkeys(schemas.load().get(group, {})) | found


@functools.cache
def _store_schemas() -> None:
    """Store a schema of every part in Hydra's ConfigStore, as schema/<group>/<name>.

    A part of a plugin needs no YAML file: its schema is the option as well.
    """
    store = ConfigStore.instance()
    for group, options in schemas.load().items():
        files = options_of(group)
        for name, option in options.items():
            node = _schema(group, name, option.parameters)
            store.store(group=f"schema/{group}", name=name, node=node)
            if files[name] is None:  # the same class: a YAML file of --config-dir that extends it is merged with both
                store.store(group=group, name=name, node=node)
    for group, cls in SETTINGS.items():
        if group == "energy":
            continue  # a profile says all its constants, so there is nothing to take them from
        store.store(group=f"schema/{group}", name="default", node=_schema(group, "default", parameters_of(cls)))


def _schema(group: str, name: str, parameters: Sequence[Parameter]) -> type:
    fields: list[tuple[str, Any, Any]] = [("name", str, name)] if group not in SETTINGS else []
    for p in parameters:
        kind, default = _hydra_type(p)
        fields.append((p.name, kind | None if p.optional else kind, default))
    return dataclasses.make_dataclass(f"{group}_{name}", [(n, t, dataclasses.field(default=d)) for n, t, d in fields])


def _hydra_type(p: Parameter) -> tuple[Any, Any]:
    """Return a parameter's type and default in Hydra's terms: an enum where it is a choice among words."""
    if p.auto:
        return Any, p.default  # the word or a value, which `Parameter.checked` tells apart
    if p.type != "choice":
        return {"bool": bool, "int": int, "float": float, "str": str}[p.type], p.default
    words: Any = enum.Enum("Choice", {choice: choice for choice in p.choices})  # type: ignore[misc]
    return words, None if p.default is None else words[str(p.default)]


@contextmanager
def hydra_on(search: Sequence[str]) -> Iterator[BoundedLoader]:
    """Initialise Hydra on our configs, schemas and loader inside the block, and restore its state afterwards.

    Args:
        search: further folders of configs.

    Raises:
        UserError: one of them is not a folder.
    """
    _store_schemas()
    for folder in search:
        if not folder or not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder} is not a folder; it must hold folders such as experiment/")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="snn_exp"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        path = hydra.config_loader.get_search_path()
        for folder in search:
            element = SearchPathElement(COMMAND_LINE, f"file://{Path(folder).resolve()}")
            path.get_path().insert(-1, element)  # Hydra wants its schemas to stay last
        hydra.config_loader = loader = BoundedLoader(path)
        yield loader
