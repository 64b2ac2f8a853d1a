"""Answer Hydra's read-only flags: the composed config and information. No torch.

Hydra has others, which name another root config or read a pickled one; they are not accepted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_exp.cli.parsing import Parser
from snn_exp.config import interpolations
from snn_exp.config.hydra_setup import hydra_on
from snn_exp.config.overrides import CONFIG_NAME, first_line
from snn_exp.errors import UserError

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def parser() -> argparse.ArgumentParser:
    """Return the parser of these flags."""
    made = Parser("snn-exp train", allow_abbrev=False, description="Print the composed config or facts on Hydra.")
    made.add_argument("overrides", nargs="*", help="Hydra overrides, such as neuron=lif neuron.tau=3")
    made.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print the composed config")
    made.add_argument("--package", "-p", help="print only this part of it, such as neuron")
    made.add_argument("--resolve", action="store_true", help="with its interpolations resolved")
    made.add_argument("--info", "-i", nargs="?", const="all", choices=INFO, help="print what Hydra knows")
    made.add_argument("--hydra-help", action="store_true", help="Hydra's own help")
    made.add_argument("--shell-completion", "-sc", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--config-dir", "-cd", action="append", default=[], help="a further folder of configs")
    return made


def answer(arguments: Sequence[str]) -> int:
    """Answer a command line that has one of these flags; return the exit code.

    Raises:
        UserError: the config cannot be composed, or sets a setting of Hydra's that it may not.
    """
    given = parser().parse_intermixed_args(arguments)
    if given.shell_completion:  # Hydra's own knows overrides and no commands
        raise UserError("--shell-completion is Hydra's, which completes no commands; type snn-exp completion bash")
    with hydra_on(given.config_dir):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            _answer(hydra, given)
        except (OmegaConfBaseException, ValueError) as error:
            raise UserError(f"cannot answer this: {first_line(error)}") from None
    return 0


def _answer(hydra: Hydra, given: argparse.Namespace) -> None:
    composed = hydra.config_loader.load_configuration(CONFIG_NAME, given.overrides, RunMode.RUN)
    job = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(job, dict)
    interpolations.require_flat({str(key): value for key, value in job.items() if key != "hydra"})
    if given.hydra_help:
        hydra.hydra_help(config_name=None, args_parser=get_args_parser(), args=argparse.Namespace(overrides=[]))
    elif given.info:
        hydra.show_info(given.info, config_name=CONFIG_NAME, overrides=given.overrides)
    elif given.cfg:
        hydra.show_cfg(
            config_name=CONFIG_NAME,
            overrides=given.overrides,
            cfg_type=given.cfg,
            package=given.package,
            resolve=given.resolve,
        )
    else:
        raise UserError("--package and --resolve say how --cfg prints; type --cfg job with them")
    sys.stdout.flush()
