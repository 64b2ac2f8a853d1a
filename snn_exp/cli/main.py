"""The command line: finds the command, and says in one sentence what went wrong.

Every cell of a sweep is composed and checked before Hydra launches any of them. A user error is one sentence
and exit code 2; a run that crashed is exit code 1; a signal 128 and its number; otherwise 0.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from snn_exp import __version__
from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

from snn_exp.cli.commands import COMMANDS
from snn_exp.config import own_files
from snn_exp.errors import UserError, begin_command, unknown
from snn_exp.escaping import say, write_plainly
from snn_exp.runs import interrupts

LINES = "\n".join(f"  {command.help_line}" for command in COMMANDS.values())
HELP = f"""usage: snn-exp COMMAND ...

Experiments on spiking neural networks: PSP normalization, single-step S2NN, and what they are compared with.

{LINES}

  snn-exp train neuron=s2nn norm=bn residual=bireal depth=d20 seed=0
  snn-exp train -m neuron=lif,plif norm=bn,psp seed=0,1,2
  snn-exp train experiment=quick
  snn-exp study psp_depth --plan

SNN_EXP_OUTPUT moves outputs/, SNN_EXP_DATA the data. `snn-exp COMMAND --help` says more; `snn-exp --version`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    write_plainly(sys.stdout)
    begin_command()
    own_files.forget()
    with interrupts.listening():
        try:
            exit_code = _run(given)
            sys.stdout.flush()
            return exit_code
        except (interrupts.Interrupted, KeyboardInterrupt):
            return interrupts.stop()
        except UserError as error:
            say(f"snn-exp: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:  # the reader of the output has closed it, as head does
            return 128 + 13
        except OSError as error:  # a run, a fold and an export say more, with what is lost
            if error.errno in _IN_THE_WAY and (path := error.filename2 or error.filename):
                fault = f"{path} is in the way ({error.strerror}); move it, or make it writable, and"
            elif error.errno in (errno.ENOSPC, errno.EDQUOT):
                fault = f"the disk{f' of {error.filename}' if error.filename else ''} is full; make room and"
            else:
                raise
            say(f"snn-exp: {fault} type the same command again", file=sys.stderr)
            return UserError.exit_code
        finally:
            _let_go_of_output()


# what somebody has put where a command wants to read or write
_IN_THE_WAY = (
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
)


def _let_go_of_output() -> None:
    """Drop what cannot be printed, over which Python would end with a warning and a code of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if given[0] == "--version":
        say(f"snn-exp {__version__}")
        return 0
    command, rest = given[0], given[1:]
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS, "snn-exp {}")
    return COMMANDS[command](rest)


def entry_point() -> None:
    """Run the console script."""
    with interrupts.listening():
        interrupts.leave(main())


if __name__ == "__main__":
    entry_point()
