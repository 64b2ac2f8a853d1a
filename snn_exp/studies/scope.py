"""The scope of a study: the values that its runs share, and what was searched. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from snn_exp.config.experiment import ASIDE, EXECUTION, GROUPS
from snn_exp.registry import Scalar
from snn_exp.runs.filters import chosen, read, value_text
from snn_exp.studies.runner import Progress
from snn_exp.studies.spec import Overrides, Setting, Study

Choices = Mapping[str, Scalar]


def varied(study: Study) -> set[str]:
    """Return the keys that methods, settings or the grid set, which the study compares.

    Args:
        study: the study.
    """
    grids = [point for s in study.settings.values() for point in ([s.drawn.example] if s.drawn else s.points())]
    lists = [*study.methods.values(), *(setting.overrides for setting in study.settings.values()), *grids]
    return {key for overrides in lists for key in _keys(overrides)}


def _keys(overrides: Overrides) -> Iterator[str]:
    for text in overrides:
        for condition in read(text).conditions:
            yield from condition.demands


def fixed(progress: Progress) -> list[str]:
    """Return one line per group: the options that were run, each with the values that all its runs have.

    Args:
        progress: of the study; options that have not been run have no values.
    """
    rows = progress.rows()
    ran = [run for run in (*progress.trials, *progress.finals) if run.config.run_id in rows]
    configs = list({run.config.run_id: chosen(run.config.to_plain()) for run in ran}.values())
    asked = varied(progress.study)
    lines = []
    for group in GROUPS:
        if group in ASIDE or not configs:
            continue
        options = list(dict.fromkeys(config.get(group) for config in configs))
        shown = [_option(group, option, configs, asked) for option in options]
        if words := "; ".join(filter(None, shown)):
            lines.append(words)
    return lines


def _option(group: str, option: Scalar, configs: Sequence[Choices], asked: set[str]) -> str:
    """Describe an option with its values, and the choice it follows from, if any."""
    of = [config for config in configs if config.get(group) == option]
    keys = dict.fromkeys(key for config in of for key in config if key.startswith(f"{group}."))
    values = []
    for key in keys:
        parameter = key.partition(".")[2]
        if key not in asked and parameter not in EXECUTION.get(group, ()):
            found = dict.fromkeys(_shown(config[key]) for config in of if key in config)
            if list(found) == ["null"]:  # such as dataset.num_train and trainer.patience, which then do nothing
                continue
            values.append(f"{parameter}={' or '.join(found)}")
    head = "" if option is None else f"{group}={value_text(option)}"
    if option is None:
        return ", ".join(f"{group}.{value}" for value in values)
    where = "" if group in asked or len(of) == len(configs) else _where(of, configs, asked)
    return head + (f" ({', '.join(values)})" if values else "") + where


def _shown(value: Scalar) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value_text(value)


def _where(of: Sequence[Choices], configs: Sequence[Choices], asked: set[str]) -> str:
    """Return the choice that an option follows from; "" if there is none."""
    others = [config for config in configs if config not in of]
    for key in sorted(asked, key=lambda key: ("." in key, key)):
        ours, theirs = ([config.get(key) for config in some] for some in (of, others))
        if not set(ours) & set(theirs):
            return f" with {key}={','.join(value_text(value) for value in dict.fromkeys(ours))}"
    return ""


def searched(study: Study) -> str:
    """Return what each method could choose from on validation data, as a sentence."""
    grids: dict[str, list[str]] = {}
    for setting in study.settings.values():
        if setting.tuned_in == setting.name and setting.num_points > 1:
            grids.setdefault(_grid(setting), []).append(setting.name)
    if not grids:
        return "nothing; every value was set beforehand."
    said = "; ".join(f"{grid}, in {', '.join(names)}" for grid, names in grids.items())
    return f"{said}; the same for every method, on validation data. Nothing else."


def _grid(setting: Setting) -> str:
    if setting.drawn:
        return setting.drawn.words
    return " x ".join(f"{key} of {', '.join(value_text(v) for v in of)}" for key, of in setting.grid.items())
