"""The cells of a sweep: which of them are one run, and what tells each from the others. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.choices import choices, row_choices, varying


def once_each(configs: Iterable[ExperimentConfig]) -> list[ExperimentConfig]:
    """Return the runs of these cells, each once; of cells that are one run, one that asks for the test set is kept.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> cells = [compose([f"trainer.test={test}"]) for test in ("true", "false")]
        >>> [config.trainer.test for config in once_each(cells)]
        [True]
    """
    found: dict[str, ExperimentConfig] = {}
    for config in configs:
        run_id = config.run_id
        if run_id not in found or config.trainer.test:
            found[run_id] = config
    return list(found.values())


def in_stages(configs: Sequence[ExperimentConfig]) -> list[list[ExperimentConfig]]:
    """Return the runs in stages, of which each has what those before it train: a teacher, or weights to start from.

    Runs that need none of the others are the first stage.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> first = compose(["encoding.num_steps=4"])
        >>> second = compose(["encoding.num_steps=2", f"init_from={first.run_id}"])
        >>> [[config.num_steps for config in stage] for stage in in_stages([second, first])]
        [[4], [2]]
    """
    left, stages = {config.run_id: config for config in configs}, list[list[ExperimentConfig]]()
    while left:
        ready = {i: config for i, config in left.items() if config.teacher not in left and config.init_from not in left}
        stages.append(list(ready.values()))
        left = {run_id: config for run_id, config in left.items() if run_id not in ready}
    return stages


def note_on_same(num: int) -> str:
    """Return a note on duplicate cells; empty if there are none.

    Example:
        >>> note_on_same(1), note_on_same(2), note_on_same(0)
        ('1 duplicate cell', '2 duplicate cells', '')
    """
    return f"{num} duplicate {'cell' if num == 1 else 'cells'}" if num else ""


def names(configs: Sequence[ExperimentConfig]) -> Mapping[str, str]:
    """Return run id -> a name that no other of these runs has: what varies between them, and the seed.

    Runs that differ in the seed alone, or a single one, have their label.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> cells = [compose([f"optim.lr={lr}", "seed=3"]) for lr in (0.1, 0.2)]
        >>> list(names(cells).values())
        ['optim.lr=0.1 seed=3', 'optim.lr=0.2 seed=3']
        >>> list(names(cells[:1]).values())
        ['lif+bn pre d8 digits seed=3']
    """
    plain = {config.run_id: config.to_plain() for config in configs}
    flat = {run_id: choices(one) for run_id, one in plain.items()}
    keys = varying(list(plain.values()))
    if keys:
        shown = row_choices(list(flat.values()), keys)
        found = {
            run_id: " ".join([*(f"{key}={one[key]}" for key in shown if key in one), f"seed={plain[run_id]['seed']}"])
            for run_id, one in flat.items()
        }
    else:
        found = {config.run_id: config.label for config in configs}
    counts = Counter(found.values())  # runs with a teacher may differ in ways that no choice shows
    return {run_id: name if counts[name] == 1 else f"{name} (run {run_id})" for run_id, name in found.items()}
