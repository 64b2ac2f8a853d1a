"""`snn-exp pack`: a run, or a study with its runs, in one file to send."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from snn_exp.cli.parsing import command_parser
from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.files import MIB


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp pack`."""
    parser = command_parser(
        "pack", "Write a run, or a study with its runs, into one file: config, weights, result and model card."
    )
    parser.add_argument("what", help="a run id, the beginning of one, a run's folder; or a folder of studies/")
    parser.add_argument("--to", default="", metavar="FILE", help="the file; outputs/packed/NAME.zip if left out")
    parser.add_argument(
        "--licence", default="other", metavar="ID", help="of the weights, for the model card: mit, cc-by-4.0, ..."
    )
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.runs.find import find_run
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import packing, spec
    from snn_exp.training.load import load_checked

    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,39}", given.licence):
        raise UserError(
            f"--licence {given.licence!r} is no identifier of a licence, which has letters, digits, '.', '+' and '-'; "
            f"type --licence mit, say, or leave it out for other"
        )
    require_writable(output_root())
    if given.what in spec.names():
        path = Path(given.to or output_root() / "packed" / f"{given.what}.zip")
        path, num, without = packing.pack_study(given.what, path, given.licence, load_checked)
        rest = f"; {without} have no weights in {output_root()} and are in results.jsonl alone" if without else ""
        say(f"study {given.what} with {num} runs{rest}")
    else:
        folder = find_run(given.what)
        path = Path(given.to or output_root() / "packed" / f"{folder.path.name}.zip")
        packing.pack_run(folder, path, given.licence, load_checked)
        say(f"run {folder.path.name} with its weights and model card")
    say(f"written: {path} ({path.stat().st_size / MIB:.2f} MiB); snn-exp unpack {path.name} reads it")
    return 0
