"""`snn-exp show`: the resolved config, the built network, and its layers before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snn_exp.cli.parsing import command_parser, print_table, wide_console
from snn_exp.errors import UserError
from snn_exp.escaping import say

PICTURES = (".png", ".pdf", ".svg")


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp show`."""
    parser = command_parser(
        "show", "Show the resolved config, the built network, and its layers before training.", overrides=True
    )
    parser.add_argument("--picture", metavar="FILE", help="draw the layers' curves as well, into a .png")
    parser.add_argument("--inits", action="store_true", help="compare what each initialisation makes of the layers")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose
    from snn_exp.training import preflight

    picture_file = Path(given.picture) if given.picture else None
    if picture_file and picture_file.suffix not in PICTURES:
        raise UserError(f"--picture {picture_file} has no image extension; type one of {', '.join(PICTURES)}")
    config = compose.compose(given.overrides, given.config_dir)
    preflight.require_data([config])

    from snn_exp.cli import network_tables
    from snn_exp.reporting import figures
    from snn_exp.training import auto
    from snn_exp.training.build import kernels_of

    task, data = network_tables.build(config)
    layers = network_tables.untrained_layers(task, data)
    wide_console(140).print(network_tables.config_text(config), highlight=False)
    for line in auto.sentences(auto.answers(config, kernels_of(config))):
        say(line)
    print_table(network_tables.network_table(task, data), ("part", "output", "parameters"))
    print_table(network_tables.layers_table(layers), ("theory", "dead channels", "|dL/dW|"), more="--picture draws all")
    if given.inits:
        print_table(network_tables.inits_table(config), (network_tables.MOST_DEAD, "|dL/dW|"), ("firing rate",))
    if picture_file:
        picture = figures.of_layers({config.label: {"init": layers}}, "layers", config.label)
        try:
            say(f"written: {picture.save(picture_file)}")
        except OSError as error:
            raise UserError(f"{picture_file} cannot be written ({error.strerror}); name another file") from None
    return 0
