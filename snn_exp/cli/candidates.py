"""Candidates for the word of a command line that is being typed, each with what it is. No torch.

The flags and positions of a command are read off its own parser; what may stand in each is here.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from snn_exp.cli import commands, new
from snn_exp.cli.parsing import RUN, Described, describing

if TYPE_CHECKING:  # imported where needed, so that a command's name is completed at once
    from snn_exp.registry import Parameter
    from snn_exp.runs.store import StoredRun

SHELLS = ("bash", "zsh", "fish")  # that can be told

Candidates = dict[str, str]  # candidate -> what it is, empty where the name says it


def candidates(before: Sequence[str], current: str) -> Candidates:
    """Return what may stand in place of a word.

    Args:
        before: the words behind snn-exp that are typed already.
        current: the beginning of the next one; it may be empty.

    Example:
        >>> list(candidates([], "exp"))
        ['export']
        >>> list(candidates(["train", "norm=psp"], "neuron=pl"))
        ['neuron=plif']
        >>> list(candidates(["train", "-m"], "neuron=lif,pl"))
        ['neuron=lif,plif']
        >>> list(candidates(["train", "neuron=lif"], "neuron.reset="))
        ['neuron.reset=hard', 'neuron.reset=soft']
    """
    current = current.lstrip("\"'")
    if not before:
        found: Candidates = {name: command.does for name, command in commands.COMMANDS.items()}
        return _beginning(found | {"--help": "", "--version": ""} if current.startswith("-") else found, current)
    if before[0] not in commands.COMMANDS:
        return {}
    parser = _parser(before[0])
    flags: dict[str, argparse.Action | None] = {
        flag: action for action in parser._actions for flag in action.option_strings
    }
    if before[0] == "train":
        flags |= dict.fromkeys(("--cfg", "--info"))
    flag, equals, value = current.partition("=")
    if equals and flag.startswith("--"):
        known = _of_argument(before, flags.get(flag), value)
        return _beginning({f"{flag}={word}": what for word, what in known.items()}, current)
    last = flags.get(before[-1])
    if last is not None and last.nargs != 0:
        return _beginning(_of_argument(before, last, current), current)
    if current.startswith("-"):
        return _beginning({flag: (action and action.help) or "" for flag, action in flags.items()}, current)
    return _beginning(_of_argument(before, _position(parser, flags, before[1:]), current), current)


def _beginning(found: Candidates, current: str) -> Candidates:
    return {word: what for word, what in found.items() if word.startswith(current)}


def _parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command, which its function makes before it does anything else."""
    with describing():
        try:
            commands.COMMANDS[name]([])
        except Described as said:
            return said.parser
    raise AssertionError(f"snn-exp {name} parses nothing")


def _position(
    parser: argparse.ArgumentParser, flags: Mapping[str, argparse.Action | None], words: Sequence[str]
) -> argparse.Action | None:
    """Return the positional argument that comes next; None where the command takes no more."""
    taken, follows = 0, False
    for word in words:
        action = flags.get(word)
        if not follows and not word.startswith("-"):
            taken += 1
        follows = not follows and action is not None and action.nargs != 0
    for action in parser._actions:
        if action.option_strings:
            continue
        takes = 1 if action.nargs in (None, "?") else action.nargs if isinstance(action.nargs, int) else 10**6
        if taken < takes:
            return action
        taken -= takes
    return None


def _of_argument(before: Sequence[str], action: argparse.Action | None, current: str) -> Candidates:
    """Return what may stand in an argument of a command."""
    if action is None:
        return {}
    if action.help == RUN:
        return _runs()
    if action.dest in _IN_EVERY_COMMAND:
        return _IN_EVERY_COMMAND[action.dest](before, current)
    answer = _IN_A_COMMAND.get((before[0], action.dest))
    return answer(before, current) if answer else dict.fromkeys(map(str, action.choices or ()), "")


def _overrides(before: Sequence[str], current: str) -> Candidates:
    """Return groups, keys and values: what a line of train may have next."""
    from snn_exp.config.experiment import RUN_KEYS
    from snn_exp.config.hydra_settings import FROM_FILES
    from snn_exp.config.overrides import CHOICES

    key = current.lstrip("+~")
    signs = current[: len(current) - len(key)]
    name, equals, given = key.partition("=")
    group, dot, _ = name.partition(".")
    found: Candidates = {}
    if name == "hydra/launcher":
        found = {f"hydra/launcher={launcher}": "" for launcher in ("joblib", "submitit_slurm", "submitit_local", "ray")}
    elif group == "hydra":
        found = {f"hydra.{setting}=": "" for setting in FROM_FILES if setting.startswith("launcher.")}
    elif equals and name in RUN_KEYS:
        found = {f"{name}={run}": what for run, what in _runs().items()}
    elif equals and dot:
        found = {f"{name}={value}": "" for value in _values(name, before, given)}
    elif equals:
        found = _options(name, given)
    elif dot:
        found = {f"{group}.{p.name}=": p.doc for p in _parameters(group, before)}
    else:
        found = {f"{word}=": "" for word in (*CHOICES, "seed", *RUN_KEYS, "hydra/launcher")} | {"hydra.": ""}
        found |= {f"{word}.": "" for word in CHOICES if _parameters(word, before)}
    return {signs + word: what for word, what in found.items()}


def _options(group: str, given: str) -> Candidates:
    """Return the options of a group as values of it, behind those of a list that are typed already."""
    from snn_exp.cli import options
    from snn_exp.config.overrides import CHOICES

    if group not in CHOICES:
        return {}
    typed = given.split(",")[:-1]
    names = [name for name in options.option_names(group)[group] if name not in typed]
    return {f"{group}={','.join([*typed, name])}": options.summary(group, name) for name in names}


def _parameters(group: str, before: Sequence[str]) -> list[Parameter]:
    """Return the parameters of the options that the line chooses in a group, or of all where it chooses none."""
    from snn_exp.cli import options
    from snn_exp.config.overrides import CHOICES

    if group not in CHOICES:
        return []
    names = options.option_names(group)[group]
    chosen = [word.partition("=")[2] for word in before if word.lstrip("+").startswith(f"{group}=")]
    asked = [name for name in names if name in ",".join(chosen).split(",")] or names
    found = {p.name: p for name in asked for p in options.parameters(group, name)}
    return list(found.values())


def _values(name: str, before: Sequence[str], given: str) -> list[str]:
    """Return the values of a key: the words that it may be, or its default, so that it need not be looked up."""
    group, _, key = name.partition(".")
    for p in _parameters(group, before):
        if p.name == key:
            words = p.choices or (("true", "false") if p.type == "bool" else ())
            words += ("auto",) if p.auto and words else (str(p.default), "auto") if p.auto else ()
            typed = given.split(",")[:-1]
            if words:
                return [",".join([*typed, word]) for word in words if word not in typed]
            return (
                []
                if given or p.default is None
                else [f"{p.default:g}" if isinstance(p.default, float) else str(p.default)]
            )
    return []


def _runs() -> Candidates:
    """Return the ids of the stored runs, with what they are where they are few enough to be read in a moment."""
    from snn_exp.runs import find, store

    folders = find.run_folders()
    if len(folders) > 50:
        return {folder.path.name: "" for folder in folders}
    return {run.name: _what(run) for run in store.stored_runs() if run.state != "kept"}


def _what(run: StoredRun) -> str:
    layers, seed = run.label("depth.num_layers"), run.label("seed")
    return f"{run.label('neuron')} {run.label('norm')} {run.label('dataset')} d{layers} seed={seed}, {run.state}"


def _studies() -> Candidates:
    from snn_exp.studies import spec

    return dict.fromkeys(spec.names(), "")


def _cells(before: Sequence[str]) -> Candidates:
    """Return setting/method of the study that the line names."""
    from snn_exp.studies import spec

    for name in before[1:]:
        if name in spec.names():
            study = spec.load(name)
            return {f"{setting}/{method}": "" for setting, method in itertools.product(study.settings, study.methods)}
    return {}


def _filters(before: Sequence[str], current: str) -> Candidates:
    from snn_exp.runs.store import STATES

    if current.startswith("state="):
        return {f"state={state}": "" for state in STATES}
    return {**_overrides(before, current), "state=": ""}


def _list(words: Iterable[str], current: str) -> Candidates:
    """Return words as the next entry of a list with commas."""
    typed = current.split(",")[:-1]
    return {",".join([*typed, word]): "" for word in words if word not in typed}


def _columns() -> list[str]:
    from snn_exp.runs.listing import columns_of
    from snn_exp.runs.store import stored_runs

    return columns_of(stored_runs())


def _data_sets() -> Candidates:
    from snn_exp.cli import options

    return {name: options.summary("dataset", name) for name in options.option_names("dataset")["dataset"]}


def _what_to_show(before: Sequence[str], current: str) -> Candidates:
    """Return groups, and once one is typed, its options."""
    from snn_exp.config.overrides import CHOICES

    group, equals, given = current.partition("=")
    return _options(group, given) if equals else {word: "" for group in CHOICES for word in (group, f"{group}=")}


def _row_choices(before: Sequence[str], current: str) -> Candidates:
    from snn_exp.config.overrides import CHOICES

    return _list(CHOICES, current)


Provider = Callable[[Sequence[str], str], Candidates]


def _words(*words: str) -> Provider:
    return lambda before, current: _list(words, current)


# by the name of an argument of every command, and of one command
_IN_EVERY_COMMAND: Mapping[str, Provider] = {"overrides": _overrides}
_IN_A_COMMAND: Mapping[tuple[str, str], Provider] = {
    ("study", "name"): lambda before, current: _studies(),
    ("study", "only"): lambda before, current: _cells(before),
    ("report", "what"): lambda before, current: {**_studies(), **_filters(before, current)},
    ("report", "by"): _row_choices,
    ("report", "versus"): _overrides,
    ("report", "energy"): lambda before, current: {
        word.partition("=")[2]: what for word, what in _options("energy", "").items()
    },
    ("report", "metric"): _words("test/acc", "val/acc", "test/energy_pj", "test/firing_rate"),
    ("report", "format"): _words("html", "md", "tex", "csv", "png", "pdf"),
    ("dashboard", "what"): lambda before, current: {**_studies(), **_filters(before, current)},
    ("runs", "words"): lambda before, current: {
        **({"list": "", "clean": ""} if len(before) == 1 else {}),
        **_filters(before, current),
    },
    ("runs", "sort"): lambda before, current: dict.fromkeys(_columns(), ""),
    ("runs", "columns"): lambda before, current: _list(_columns(), current),
    ("options", "what"): _what_to_show,
    ("new", "kind"): _words(*new.KINDS),
    ("completion", "shell"): _words(*SHELLS),
    ("pack", "what"): lambda before, current: {**_studies(), **_runs()},
    ("data", "action"): _words("check", "fetch"),
    ("data", "name"): lambda before, current: _data_sets(),
    ("export", "format"): _words("onnx", "nir", "safetensors"),
    ("search", "objective"): _words("val/acc", "val/energy_pj"),
    ("search", "sampler"): _words("tpe", "random", "grid", "qmc", "nsgaii"),
    ("search", "pruner"): _words("none", "median", "hyperband"),
}
