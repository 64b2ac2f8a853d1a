"""The registry of the subcommands: each is a file here, imported only when it is typed."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand: `snn_exp/cli/NAME.py`, whose `main` parses its arguments, calls and prints.

    Args:
        name: as it is typed, and of the file.
        takes: its arguments in a few words, for `snn-exp --help`.
        does: what it does or shows, in one line.

    Example:
        >>> COMMANDS["verify"].help_line
        'verify RUN               train a run again and compare it bit by bit'
    """

    name: str
    takes: str
    does: str

    @property
    def help_line(self) -> str:
        """Return its line of `snn-exp --help`."""
        return f"{f'{self.name} {self.takes}':<24} {self.does}"

    def __call__(self, arguments: Sequence[str]) -> int:
        """Run it; return the exit code."""
        return self.load()(arguments)

    def load(self) -> Callable[[Sequence[str]], int]:
        """Import its file; return the function from its arguments to an exit code."""
        main: Callable[[Sequence[str]], int] = importlib.import_module(f"snn_exp.cli.{self.name}").main
        return main


COMMANDS = {
    command.name: command
    for command in (
        Command("train", "[-m] [overrides]", "train one run, or with -m every combination of a sweep"),
        Command("plan", "[-m] [overrides]", "what that would run, what of it is done, and how long the rest takes"),
        Command("search", "[overrides]",
                "let Optuna choose among values and ranges by validation accuracy, or against energy too"),
        Command("study", "[NAME] [overrides]",
                "tune and compare methods as studies/NAME/study.yaml says; --plan only lists the runs"),
        Command("report", "NAME|key=value",
                "what a study, or the stored runs that agree, say: tables, figures, one page"),
        Command("evidence", "", "what all studies say of the two abstracts, as pages of the repository"),
        Command("dashboard", "NAME|key=value", "the same runs as a dashboard in W&B"),
        Command("options", "[group]", "what can be chosen; of one, such as neuron=lif, what its parameters may be"),
        Command("new", "KIND NAME",
                "write a package with a neuron, norm, surrogate, dataset or network of your own"),
        Command("show", "[overrides]", "the resolved config, the built network, and its layers before training"),
        Command("runs", "[list|clean] [key=value ...]", "the stored runs, and which of them may go"),
        Command("diff", "RUN RUN", "where two runs differ: choices and metrics"),
        Command("eval", "RUN [overrides]", "the test set again, under other dataset=... or encoding=..."),
        Command("predict", "RUN PATH...",
                "class, probability, spikes and energy of pictures, a folder of them, or an .npz file"),
        Command("verify", "RUN", "train a run again and compare it bit by bit"),
        Command("fold", "RUN [--int8]",
                "a trained network without its norms: into weights and thresholds, checked; in int8 too"),
        Command("export", "RUN --format F",
                "a trained network as onnx, nir or safetensors (--folded: without norms), read back, compared"),
        Command("pack", "RUN|STUDY", "one file to send: config, weights, result and model card"),
        Command("unpack", "FILE", "check such a file, and put its runs and its study in their places"),
        Command("data", "[check|fetch NAME]",
                "the data sets: where they are, what brings them; one read as a run would; one fetched"),
        Command("doctor", "", "versions, devices, data, write access, W&B"),
        Command("completion", "bash|zsh|fish", "what makes a shell complete all of this: commands, choices, runs"),
    )
}  # fmt: skip
