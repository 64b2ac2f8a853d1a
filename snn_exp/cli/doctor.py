"""`snn-exp doctor`: whether this machine can run experiments."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp doctor`."""
    command_parser("doctor", "Check versions, devices, data, write access and W&B.").parse_args(arguments)

    from snn_exp.cli.machine import examine

    checks = examine()
    for check in checks:
        say(f"{'ok ' if check.ok else 'BAD'}  {check.what:<14} {check.found}")
    return 0 if all(check.ok for check in checks) else 1
