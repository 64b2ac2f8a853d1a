"""The choices of a run, flat, and those that make a row of a table. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snn_exp.config.experiment import ASIDE, EXECUTION, GROUPS, RUN_KEYS
from snn_exp.runs.filters import group_of, value_text, younger
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root

# Choices that make a row of a comparison, in the order in which they are shown.
ROW_CHOICES = (
    "neuron", "norm", "init", "weight_norm", "residual", "depth.num_layers", "dataset", "augment", "encoding",
    "encoding.num_steps", "network", "optim",
)  # fmt: skip


def choices(config: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a config, without seed and execution: {"neuron": "lif", "neuron.tau": "2.0"}.

    Example:
        >>> choices({"neuron": {"name": "lif", "tau": 2.0}, "seed": 3})
        {'neuron': 'lif', 'neuron.tau': '2.0'}
    """
    flat: dict[str, str] = {}
    for group in GROUPS:
        for key, value in group_of(config, group).items():
            if group in ASIDE or key in EXECUTION.get(group, ()):
                continue
            flat[group if key == "name" else f"{group}.{key}"] = value_text(value)
    for key, value in younger(config).items():
        flat.setdefault(key, value_text(value))
    for key in RUN_KEYS:
        if run := config.get(key):
            flat[key] = _named(run, key)
    return flat


def _named(run_id: str, key: str) -> str:
    """Name a run by its choices, since its id differs between seeds; by its id if it is gone."""
    result = RunFolder(output_root() / "runs" / run_id).sound_result()
    if result is None:
        return run_id
    c = choices(result.config)
    parts = [*(c[group] for group in ("neuron", "norm", "residual")), f"d{c['depth.num_layers']}"]
    if key == "init_from":  # which may be of other data, or have other steps
        parts += [c["dataset"], f"T={c['encoding.num_steps']}"]
    return " ".join(parts)


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the choices in which configs differ, without the parameters that follow from the option chosen.

    Example:
        >>> [a, b] = [{"neuron": {"name": name, "tau": tau}} for name, tau in (("lif", 2.0), ("plif", 3.0))]
        >>> varying([a, b]), varying([a, b, {"neuron": {"name": "lif", "tau": 3.0}}])
        (['neuron'], ['neuron', 'neuron.tau'])
    """
    flat = [choices(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    differing = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    named = {key for key in differing if "." not in key}

    def follows(key: str) -> bool:
        option = key.partition(".")[0]
        pairs = {(one.get(option), one.get(key)) for one in flat}
        return "." in key and option in named and len(pairs) == len({chosen for chosen, _ in pairs})

    return [key for key in differing if not follows(key)]


def row_choices(flat: Sequence[Mapping[str, str]], by: Sequence[str]) -> list[str]:
    """Return the choices that name a row: the usual ones, and any other that does not follow from them.

    Two runs that differ in anything never share a row; a surrogate that is the neuron's own needs no column.

    Args:
        flat: the `choices` of each run.
        by: the choices in which runs differ.
    """
    rows = [key for key in ROW_CHOICES if key in by]
    for key in by:
        follows = len({tuple(one.get(k) for k in rows) for one in flat}) == len(
            {tuple(one.get(k) for k in (*rows, key)) for one in flat}
        )
        if key not in rows and not follows:
            rows.append(key)
    return rows or ["neuron", "norm"]
