"""Reads folders of configs that may come from a stranger: Hydra composes them, within bounds and with our checks.

Every YAML file goes through `read_config`: a regular file inside its folder, of bounded size, depth and number of
values, whose interpolations name a key or an environment variable and call nothing. How much the defaults lists of a
command may put together is bounded as well. `BoundedLoader` takes the place of Hydra's own loader, so that nothing that
composes a config (a run, `--cfg`, shell completion) goes around these checks; what may be set under `hydra` is in
`hydra_settings`.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_exp.config import hydra_settings, interpolations
from snn_exp.config.overrides import parsed_override
from snn_exp.errors import UserError, unknown
from snn_exp.files import Unreadable, num_nodes, printable, read_text

COMMAND_LINE = "command line"  # who brings a further folder of configs

MAX_BYTES = 256 * 1024
MAX_VALUES = 2_000
MAX_DEPTH = 16
MAX_COMPOSED = 20_000  # values of all files that one composition reads, as often as it reads them

GUESTS = {  # from packages of their own, each with our extra that brings it
    "hydra/launcher=submitit_slurm": ("hydra-submitit-launcher", "slurm"),
    "hydra/launcher=submitit_local": ("hydra-submitit-launcher", "slurm"),
    "hydra/launcher=ray": ("hydra-ray-launcher", "ray"),
}

# Raised by Hydra and OmegaConf for a config that they cannot read, besides their own errors.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, RecursionError)


def read_config(path: Path, folder: Path, *, is_ours: bool = False) -> tuple[DictConfig, str, int]:
    """Return a config file of a folder, its text, and how many values it holds.

    Args:
        path: the file.
        folder: the folder that it must lie in.
        is_ours: whether it came with the package; then any interpolation is allowed.

    Raises:
        UserError: it is not in the folder, too large, broken, not a mapping, or an interpolation calls something.
    """
    text = read_text(path, MAX_BYTES, folder)
    size = num_nodes(text, path, most=MAX_VALUES, deepest=MAX_DEPTH)
    try:
        if not is_ours:
            for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                if tag := getattr(event, "tag", None):
                    raise Unreadable(path, f"has the tag {tag[:80]}; write plain values")
                interpolations.require_plain(getattr(event, "value", ""), str(path))
        config = OmegaConf.load(io.StringIO(text))
    except (yaml.YAMLError, OmegaConfBaseException, OSError, *_UNREADABLE) as error:
        raise Unreadable(path, f"is broken YAML: {_words(error)}") from None
    if not isinstance(config, DictConfig):
        raise Unreadable(path, "is not a mapping; a config file has lines such as tau: 3.0")
    if not is_ours and (odd := next(_odd_keys(OmegaConf.to_container(config, resolve=False)), None)) is not None:
        raise Unreadable(path, f"has the key {printable(odd)}; a key is a word, such as tau")
    return config, text, size


def _odd_keys(plain: Any) -> Iterator[str]:
    """Return the keys of a config that are not strings, such as 1.5 or true."""
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ():
        if isinstance(plain, dict) and not isinstance(key, str):
            yield str(key)
        yield from _odd_keys(value)


def _words(error: Exception) -> str:
    words = " ".join(str(error).split()).replace("unhashable key", "a list or a mapping as a key")
    words = re.sub(r"Incompatible key type '\w+'", "a key that is not a word", words.partition(" full_key:")[0])
    return printable(re.sub(r'in "<[a-z ]+>", ', "", words.partition("; use sys.set_int_max")[0]), 300)


@dataclasses.dataclass
class _Read(ConfigResult):
    num_values: int = 1


class _Folder(FileConfigSource):
    """A folder of configs, ours or another's, whose files are read within bounds."""

    def load_config(self, config_path: str) -> ConfigResult:
        folder = Path(self.path)
        file = folder / self._normalize_file_name(config_path)
        config, text, size = read_config(file, folder, is_ours=self.provider == "main")
        header = ConfigSource._get_header_dict(text[:512])
        return _Read(provider=self.provider, path=f"file://{folder}", config=config, header=header, num_values=size)


class _Repository(ConfigRepository):
    """The search path of configs; a path that leaves its folder is not found."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources = [
            _Folder(source.provider, source.full_path()) if source.scheme() == "file" else source
            for source in self.sources
        ]

    def _find_object_source(self, config_path: str, object_type: ObjectType | None) -> ConfigSource | None:
        if ".." in config_path.split("/") or config_path.startswith("/") or "\0" in config_path:
            raise UserError(
                f"a defaults list names {config_path!r}, which lies outside the folder; name a group's option"
            )
        return super()._find_object_source(config_path, object_type)


class _Counting(CachingConfigRepository):
    """The files of one composition: each is read once, but may be asked for again and again."""

    def __init__(self, delegate: ConfigRepository) -> None:  # without the copy that Hydra's makes, a third of the time
        self.delegate = delegate
        self.cache = {}
        self.num_composed = 0

    def load_config(self, config_path: str) -> ConfigResult | None:
        loaded = super().load_config(config_path)
        self.num_composed += loaded.num_values if isinstance(loaded, _Read) else 1
        if self.num_composed > MAX_COMPOSED:
            raise _endless()
        return loaded


def _endless() -> UserError:
    return UserError(
        "the defaults lists of the config files put together too much, or each other without end; let each name only "
        "the options that it changes"
    )


class BoundedLoader(ConfigLoaderImpl):
    """Hydra's loader with our checks: it composes what is allowed, or says in a sentence what is not."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.repository = _Repository(search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a config.

        Raises:
            UserError: there is no such option, a file cannot be read, or it sets a setting of Hydra's that it may not.
        """
        parsed = [parsed_override(line) for line in overrides]
        hydra_settings.require_no_deletion(parsed)
        try:
            with warnings.catch_warnings(action="ignore"):  # Hydra's, of a file that stands for one of a plugin
                composed = super().load_configuration(
                    config_name, overrides, run_mode, from_shell, validate_sweep_overrides
                )
        except MissingConfigException as error:
            raise _missing(error) from None
        except RecursionError:
            raise _endless() from None
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(f"the config cannot be composed: {composing_fault(error)}") from None
        except _UNREADABLE:
            if adding := [o.input_line for o in parsed if o.key_or_group.startswith("hydra.sweeper.params.")]:
                raise UserError(
                    f"{adding[0]} adds to the axes of an experiment, and none is chosen that has some; type the axis "
                    f"itself, such as -m seed=0,1,2"
                ) from None
            # Hydra asserts, and looks up, what it takes for granted
            raise UserError(
                f"the config cannot be composed: a config file or one of {' '.join(overrides)[:200]} has a value, a "
                f"key or a defaults list of a kind that does not belong there"
            ) from None
        choices = hydra_settings.choices_of(composed)
        hydra_settings.require_allowed(composed, self.plain(config_name, choices), parsed)
        return composed

    def plain(self, config_name: str | None, choices: Sequence[tuple[str, str]]) -> DictConfig:
        """Compose some choices from the installed plugins and our root config alone, without further folders."""
        ours = tuple(
            (element.provider, element.path)
            for element in self.config_search_path.get_path()
            if element.provider != COMMAND_LINE
        )
        return _plain_hydra(ours, config_name, tuple(choices))

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = [parsed_override(line) for line in overrides]
        for o in parsed:
            if o.key_or_group == "hydra.searchpath":
                raise UserError(
                    f"{o.input_line} is not accepted; a further folder of configs is given as --config-dir FOLDER"
                )
        return parsed, _Counting(self.repository)


@functools.cache
def _plain_hydra(
    search_path: tuple[tuple[str, str], ...], config_name: str | None, choices: tuple[tuple[str, str], ...]
) -> DictConfig:
    """Compose Hydra's own settings from its plugins and our configs, with these choices and nothing else."""
    path = ConfigSearchPathImpl()
    for provider, place in search_path:
        path.append(provider, place)
    loader = BoundedLoader(path)
    lines = [f"{group}={choice}" for group, choice in choices]
    try:
        composed = ConfigLoaderImpl.load_configuration(loader, config_name, lines, RunMode.RUN, from_shell=False)
    except MissingConfigException as error:
        raise _missing(error) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"the config cannot be composed: {composing_fault(error)}") from None
    return composed


def composing_fault(error: Exception) -> str:
    """Describe why Hydra could not compose, without the names of its classes.

    Example:
        >>> composing_fault(ValueError("In 'norm/x': ConfigKeyError raised while composing config:\\nKey 'y' is not in "
        ...     "struct\\n    full_key: neuron.y\\n    object_type=dict"))
        'norm/x: there is no key neuron.y'
        >>> composing_fault(ValueError("Error resolving interpolation 'norm/${seed}', possible keys: norm"))
        'a defaults list names norm/${seed}, where an option is named by a word; write the option'
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    where = re.match(r"In '?([\w/.@-]+)'?: ", lines[0]) if lines else None
    begin = f"{where[1]}: " if where else ""
    for line in lines:
        if line.startswith("full_key: ") and any("Key '" in other for other in lines):
            return f"{begin}there is no key {line.partition(' ')[2]}"
    if lines and (key := re.search(r"Could not override '([^']+)'", lines[0])):
        return f"{begin}there is no key {key[1]}"
    if lines and (key := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+)'", lines[0])):
        return f"{key[1]} is a sweep of several values; give one value"
    if lines and (key := re.search(r"Could not append to config. An item is already at '([^']+)'", lines[0])):
        return f"{begin}{key[1]} is there already; leave the + out"
    if lines and (file := re.search(r"Error merging '([\w/]+)' with schema", lines[0])):
        return f"{file[1]} sets what it has no key for; take {file[1]}.yaml out of your folder of configs"
    if lines and (name := re.search(r"Error resolving interpolation '([^']+)'", " ".join(lines))):
        return f"a defaults list names {name[1]}, where an option is named by a word; write the option"
    if why := interpolations.unresolved(error):
        return f"{begin}{why}"
    said = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    words = re.sub(r"^In '?[\w/.@-]+'?: ", begin, said[0]) if said else "a value cannot be read"
    if "raised while composing config:" in words or words.startswith("Error merging"):
        words = begin + (said[1] if len(said) > 1 else "a value cannot be read")
    words = re.sub(r"Unsupported type in defaults : (\w+)", r"a defaults list holds \1, not GROUP: OPTION", words)
    words = re.sub(r"\b(ListConfig|DictConfig|NoneType|AnyNode)\b", lambda found: _KINDS[found[1]], words)
    return printable(words, 300)


_KINDS = {"ListConfig": "a list", "DictConfig": "a mapping", "NoneType": "null", "AnyNode": "a value"}


def _missing(error: MissingConfigException) -> UserError:
    """Return the error for a missing config file."""
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if (group, name) == ("hydra/sweeper", "optuna"):
        return UserError(
            "hydra/sweeper=optuna is not there any more; type snn-exp search with the same overrides, which proposes "
            "runs by itself"
        )
    if f"{group}={name}" in GUESTS:
        package, extra = GUESTS[f"{group}={name}"]
        return UserError(
            f"{group}={name} needs the package {package}, which is not installed; type pip install 'snn-exp[{extra}]'"
        )
    guests = {guest.partition("=")[2] for guest in GUESTS if guest.startswith(f"{group}=")}
    if not guests and not error.options:
        return UserError(f"the config cannot be composed: {composing_fault(error)}")
    return unknown(group, name, {*(error.options or ()), *guests}, f"{group}={{}}")
