"""Format a command as it is typed in a shell. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def command_line(command: str, words: Sequence[str], folders: Sequence[str] = (), flags: Sequence[str] = ()) -> str:
    """Return a shell command that repeats this request, and nothing else.

    Args:
        command: train, plan, report, ...
        words: its overrides, filters or names, as they were typed.
        folders: further folders of configs.
        flags: such as -m and --skip-refused.

    Example:
        >>> command_line("train", ["seed=range(2)"], ["my configs"], ["-m"])
        "snn-exp train -m --config-dir 'my configs' 'seed=range(2)'"
        >>> command_line("report", ["neuron=lif"])
        'snn-exp report neuron=lif'
    """
    with_folders = [word for folder in folders for word in ("--config-dir", folder)]
    return shlex.join(["snn-exp", command, *flags, *with_folders, *words])
