"""Commands that show what there is before anything is trained: options, a network, this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snn_exp.cli.parsing import command_parser, require_data, wide_console
from snn_exp.errors import UserError
from snn_exp.escaping import say

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    pass

PICTURES = (".png", ".pdf", ".svg")


def options(arguments: Sequence[str]) -> int:
    """Run `snn-exp options`."""
    parser = command_parser("options", "List the options, with parameters, defaults and units.")
    parser.add_argument("group", nargs="?", help="one config group, such as neuron")
    parser.add_argument("--json", action="store_true", help="group -> list of names")
    given = parser.parse_args(arguments)

    from snn_exp.cli import options as catalogue

    groups = catalogue.option_files(given.group)
    if given.json:
        say(json.dumps({group: list(names) for group, names in groups.items()}, indent=2))
    else:
        console = wide_console(140)
        for group, files in groups.items():
            console.print(catalogue.table(group, files))
    return 0


def show(arguments: Sequence[str]) -> int:
    """Run `snn-exp show`."""
    parser = command_parser(
        "show", "Show the resolved config, the built network, and its layers before training.", overrides=True
    )
    parser.add_argument("--picture", metavar="FILE", help="draw the layers' curves as well, into a .png")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose

    picture_file = Path(given.picture) if given.picture else None
    if picture_file and picture_file.suffix not in PICTURES:
        raise UserError(f"--picture {picture_file} has no image extension; type one of {', '.join(PICTURES)}")
    config = compose.compose(given.overrides, given.config_dir)
    require_data([config])

    from snn_exp.cli import show as inspection
    from snn_exp.reporting import figures

    task, data = inspection.build(config)
    layers = inspection.untrained_layers(task, data)
    console = wide_console(140)
    console.print(inspection.config_text(config), highlight=False)
    console.print(inspection.network_table(task, data))
    console.print(inspection.layers_table(layers))
    if picture_file:
        picture = figures.of_layers({config.label: {"init": layers}}, "layers", config.label)
        try:
            say(f"written: {picture.save(picture_file)}")
        except OSError as error:
            raise UserError(f"{picture_file} cannot be written ({error.strerror}); name another file") from None
    return 0


def doctor(arguments: Sequence[str]) -> int:
    """Run `snn-exp doctor`."""
    command_parser("doctor", "Check versions, devices, data, write access and W&B.").parse_args(arguments)

    from snn_exp.cli import doctor as diagnosis

    checks = diagnosis.examine()
    for check in checks:
        say(f"{'ok ' if check.ok else 'BAD'}  {check.what:<14} {check.found}")
    return 0 if all(check.ok for check in checks) else 1
