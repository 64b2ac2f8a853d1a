"""Completion: what may stand next on a line, and that bash, zsh and fish put it there."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from snn_exp.cli import candidates, commands
from snn_exp.cli.main import main
from tests.stored import store


def offered(*words: str) -> list[str]:
    return list(candidates.candidates(words[:-1], words[-1]))


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["tr"], ["train"]),
        (["--v"], ["--version"]),
        (["train", "neu"], ["neuron=", "neuron."]),
        (["train", "neuron=pl"], ["neuron=plif"]),
        (["train", "-m", "neuron=lif,pl"], ["neuron=lif,plif"]),
        (["train", "-m", "neuron=plif,pl"], []),
        (["train", "+method=sr"], ["+method=srm_psp"]),
        (["train", "neuron=s2nn", "neuron."], ["neuron.v_threshold=", "neuron.learn_threshold="]),
        (["train", "trainer.kernels=f"], ["trainer.kernels=fused"]),
        (["train", "-m", "neuron.detach_reset=true,"], ["neuron.detach_reset=true,false"]),
        (["train", "optim.lr="], ["optim.lr=0.005"]),
        (["train", "optim.lr=0"], []),
        (["train", "hydra/launcher=j"], ["hydra/launcher=joblib"]),
        (["train", "hydra.launcher.n"], ["hydra.launcher.n_jobs=", "hydra.launcher.nodes="]),
        (["train", "--skip"], ["--skip-refused"]),
        (["train", "no.thing="], []),
        (["nothing", ""], []),
        (["options", "neuron=pl"], ["neuron=plif"]),
        (["new", "neu"], ["neuron"]),
        (["new", "neuron", ""], []),
        (["data", "fetch", "fashion"], ["fashion_dvs", "fashion_mnist"]),
        (["runs", "cl"], ["clean"]),
        (["runs", "clean", "state=f"], ["state=failed"]),
        (["report", "neuron=lif", "--format", "html,p"], ["html,png", "html,pdf"]),
        (["report", "neuron=lif", "--format=p"], ["--format=png", "--format=pdf"]),
        (["report", "neuron=lif", "--versus", "norm=b"], ["norm=bn", "norm=bntt"]),
        (["study", "precisi"], ["precision"]),
        (["study", "precision", "--only", "digits_d8/li"], ["digits_d8/lif", "digits_d8/lif_bfloat16"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_what_may_come_next_is_offered(words: list[str], first: list[str]) -> None:
    assert offered(*words) == first


def test_runs_are_offered_where_one_is_asked_for_and_say_what_they_are() -> None:
    a, b = (store("dataset=digits_200", f"seed={seed}").path.name for seed in (1, 2))
    assert candidates.candidates(["fold"], a[:6]) == {a: "lif bn digits_200 d8 seed=1, done"}
    assert set(offered("diff", a, "")) == {a, b} and offered("diff", a, b, "") == [], "it takes two"
    assert offered("train", f"teacher={b[:6]}") == [f"teacher={b}"]
    assert offered("runs", "--sort", "test/a") == ["test/acc"]


def test_every_command_says_what_it_takes_and_does_nothing(output: Path) -> None:
    for name in commands.COMMANDS:
        flags = offered(name, "--")
        assert "--help" in flags, name
    assert not output.exists()


def test_what_is_known_of_an_argument_is_of_one_that_there_is() -> None:
    for command, argument in candidates._IN_A_COMMAND:
        assert argument in {action.dest for action in candidates._parser(command)._actions}, (command, argument)


def test_it_needs_no_torch_and_no_table() -> None:
    asked = "from snn_exp.cli.main import main; main(['completion', 'answer', 'train', 'neuron=pl'])"
    script = f"import sys; {asked}; print({{'torch', 'pandas', 'pydantic'}} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "neuron=plif\tParametric LIF: one learned time constant per layer.\nset()\n"


def test_a_script_is_printed_for_a_shell_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in candidates.SHELLS:
        assert main(["completion", shell]) == 0
        assert "completion answer" in capsys.readouterr().out
    assert main(["completion", "tcsh"]) == 2
    assert "There is no shell 'tcsh'; allowed: bash, fish, zsh" in capsys.readouterr().err


STARTS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "-N", "-i"]}
LOADS = {
    "bash": 'eval "$(snn-exp completion bash)"',
    "zsh": 'eval "$(snn-exp completion zsh)"',
    "fish": "snn-exp completion fish | source",
}


class Shell:
    """A shell at a terminal, in which a person types."""

    def __init__(self, words: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.process, self.terminal = pty.fork()
        if not self.process:
            os.chdir(folder)
            os.execvpe(words[0], [*words], environment)

    def types(self, text: str, until: str) -> str:
        os.write(self.terminal, text.encode())
        said, end = b"", time.monotonic() + 60
        while until.encode() not in said and time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.2)[0]:
                said += os.read(self.terminal, 65536)
        assert until.encode() in said, said
        return said.decode(errors="replace")

    def completes(self, line: str, to: str) -> None:
        """Press the tabulator behind a line; then print the line, by echo before it."""
        self.types(f"{line}\t", until=to.removeprefix(line))
        self.types("\x01echo DO''NE \n", until=f"DONE {to}")

    def ends(self) -> None:
        os.write(self.terminal, b"exit\n")
        os.close(self.terminal)
        os.waitpid(self.process, 0)


@pytest.mark.shells
@pytest.mark.parametrize("shell", candidates.SHELLS)
def test_a_shell_at_a_terminal_completes_commands_lists_keys_runs_and_files(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    run = store("dataset=digits_200").path.name
    (tmp_path / "bin").mkdir()
    (tmp_path / "pictures").mkdir()
    script = tmp_path / "bin" / "snn-exp"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m snn_exp "$@"\n')
    script.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TERM": "xterm", "PS1": "$ "}
    typing = Shell(STARTS[shell], tmp_path, environment)
    typing.types(f"{LOADS[shell]}; echo REA''DY\n", until="READY")
    typing.completes("snn-exp tra", "snn-exp train")
    typing.completes("snn-exp train -m neuron=lif,pli", "snn-exp train -m neuron=lif,plif")
    typing.completes("snn-exp train neuron=lif neuron.v_th", "snn-exp train neuron=lif neuron.v_threshold=")
    typing.completes(f"snn-exp fold {run[:6]}", f"snn-exp fold {run}")
    typing.completes(f"snn-exp predict {run} pict", f"snn-exp predict {run} pictures")
    typing.ends()
