"""The command line: error texts, exit codes, and that a refused command leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import urllib.error
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_exp.cli import machine, main
from snn_exp.cli.commands import COMMANDS
from snn_exp.config.hydra_setup import config_dir
from snn_exp.sweeps import launch
from tests.finished import Finished

GROUPS = (
    "augment, dataset, depth, encoding, energy, experiment, init, init_from, logger, method, network, neuron, norm, optim, "
    "residual, seed, surrogate, synapse, teacher, trainer, weight_norm, weight_quant"
)
LIF = "decay_input, detach_reset, learn_threshold, reset, tau, v_reset, v_threshold"
NEURONS = "clif, cuba_lif, glif, if, ilif, klif, lif, mtn, plif, psn, qrelu, relu, rsign, s2nn, sign, sliding_psn, srm, ternary"

ERRORS = {
    "neuron=lfi": f"There is no neuron 'lfi'; allowed: {NEURONS}; did you mean lif? Type neuron=lif",
    "neuron.tua=3": f"There is no key of neuron=lif 'tua'; allowed: {LIF}; did you mean tau? Type neuron.tau=...",
    "+neuron.tua=3": f"There is no key of neuron=lif 'tua'; allowed: {LIF}; did you mean tau? Type neuron.tau=...",
    "+foo=1": f"There is no group or key 'foo'; allowed: {GROUPS}",
    "foo=1": f"There is no group or key 'foo'; allowed: {GROUPS}",
    "neurn=lif": f"There is no group or key 'neurn'; allowed: {GROUPS}; did you mean neuron? Type neuron=lif",
    "neuron.tau=abc": "neuron.tau=abc is not allowed: neuron.tau must be a float > 1 [steps]; the default is "
    "neuron.tau=2.0",
    "neuron.tau=1": "neuron.tau=1.0 is not allowed: neuron.tau must be a float > 1 [steps]; the default is neuron.tau=2.0",
    "neuron.tau=null": "neuron.tau=null is not allowed: neuron.tau must be a float > 1 [steps]; the default is "
    "neuron.tau=2.0",
    "optim.lr=-1": "optim.lr=-1.0 is not allowed: optim.lr must be a float > 0; the default is optim.lr=0.005",
    "neuron.reset=sfot": "neuron.reset=sfot is not allowed: neuron.reset must be one of hard, soft; the default is "
    "neuron.reset=hard",
    "~seed": "~seed would leave a run without its seed; leave it out for seed=0",
    "~norm": "~norm would leave a run without its norm; type norm=none",
    "~optim": "~optim would leave a run without its optim; leave it out for optim=adamw",
    "neuron.tau=2 neuron.tau=3": "neuron.tau is given twice, as neuron.tau=2 and neuron.tau=3; give it once",
    "energy.mac_pj=-1": "energy.mac_pj=-1.0 is not allowed: energy.mac_pj must be a float > 0 [pJ]; the default is "
    "energy.mac_pj=4.6",
    "energy.xnor_fj=null": "energy.xnor_fj=null is not allowed: energy.xnor_fj must be a float > 0 [fJ]; the default is "
    "energy.xnor_fj=20.0",
    "energy.weight_pj=50": "the energy profile h45_fp32 lacks state_pj, and a profile must say name, mac_pj, ac_pj, xnor_fj, "
    "weight_pj and state_pj both or neither, and word_bits, weight_bit_pj, bit_pj, compare_pj all or none; type energy.state_pj=..., or state_pj: ... in its YAML file",
    "energy=h45_fp32_memory energy.state_pj=-1": "energy.state_pj=-1.0 is not allowed: energy.state_pj must be a float >= 0 [pJ]; the "
    "default is energy.state_pj=0.0",
    "energy=h45_fp23": "There is no energy 'h45_fp23'; allowed: h45_fp16, h45_fp32, h45_fp32_memory, h45_fp32_offchip, h45_fp32_onchip, h45_int8, h45_int8_onchip; did you mean h45_fp32? Type "
    "energy=h45_fp32",
    "seed=-1": "seed=-1 is not allowed: seed must be an int >= 0; the default is seed=0",
    "depth=21": "There is no depth 21; allowed: 8, 14, 20, 32, 44, 56, 110, 206, 1202; the nearest is 20: type depth=d20 (any other "
    "depth a network can have: depth.num_layers=N)",
    "depth.num_layers=21": "depth=21 is not a depth of network=resnet, which has 6n + 2 layers; the nearest is 20: type "
    "depth=d20",
    "encoding.num_steps=4 neuron=s2nn": "encoding.num_steps=4 cannot be combined with neuron=s2nn, which has a single step; "
    "leave encoding.num_steps out, or choose a neuron with time such as neuron=lif",
    "norm=psp neuron=sign": "norm=psp does nothing with neuron=sign: the second moment of -1 and +1 is 1; type norm=bn",
    "optim.width_end=0.5": "optim.width_end=0.5 is the end of a schedule and optim.width_schedule is constant; type "
    "optim.width_schedule=linear or cosine, or leave optim.width_end out",
    "optim.width_schedule=linear": "optim.width_schedule=linear ends where it starts; type optim.width_end=0.5, say, or leave it out",
    "neuron=relu optim.width_schedule=cosine optim.width_end=2": "optim.width_schedule=cosine is of a surrogate's width and "
    "neuron=relu has no surrogate; leave it out, or choose a neuron that spikes such as neuron=s2nn",
    "optim.beta1=0.5": "optim.beta1=0.5 does nothing with optim.schedule=onecycle, which moves it from 0.95 to 0.85 and back; "
    "type optim.schedule=cosine as well, or leave it out",
    "optim=sgd optim.momentum=0.0 optim.nesterov=false": "optim.momentum=0 does nothing with optim.schedule=onecycle, which "
    "moves it from 0.95 to 0.85 and back; type optim.schedule=cosine as well, or leave it out",
    "optim.warmup=0.2": "optim.warmup=0.2 does nothing with optim.schedule=onecycle; type optim.schedule=cosine as well, or "
    "leave it out",
    "residual=post residual.activation=rprelu": "There is no key of residual=post 'activation'; allowed: shortcut",
    "residual=sew_add neuron=relu": "residual=sew_add combines spikes and neuron=relu emits real values; type "
    "residual=bireal, or a neuron that spikes such as neuron=lif",
    "residual=sew_iand neuron=sign": "residual=sew_iand combines spikes and neuron=sign emits -1 and +1; type "
    "residual=bireal, or a neuron that spikes such as neuron=lif",
    "residual=sew_and residual.shortcut=avgpool_dup": "residual.shortcut=avgpool_dup is not allowed: residual.shortcut "
    "must be one of conv, maxpool_dup; the default is residual.shortcut=conv",
    "norm=mpbn neuron=s2nn": "norm=mpbn normalizes the membrane potential, and neuron=s2nn has none that persists between steps; type "
    "norm=bn, or choose a neuron with a membrane such as neuron=lif",
    "norm=neunorm neuron=sign": "norm=neunorm counts spikes and neuron=sign emits -1 and +1; type norm=bn, or choose a neuron that "
    "spikes such as neuron=lif",
    "norm=neunorm neuron=relu": "norm=neunorm counts spikes and neuron=relu emits real values; type norm=bn, or choose a "
    "neuron that spikes such as neuron=lif",
    "encoding=latency neuron=s2nn": "encoding=latency needs at least 2 steps and has 1; type encoding.num_steps=4 with a "
    "neuron that has time, or encoding=direct",
    "dataset=digits_dvs encoding=rate": "encoding=rate makes steps out of images, and the samples of dataset=digits_dvs have time already; leave encoding out, or type encoding=frames",
    "dataset=digits_dvs encoding=latency neuron=s2nn": "encoding=latency makes steps out of images, and the samples of dataset=digits_dvs have time already; leave encoding out, or type encoding=frames",
    "dataset=nmnist encoding=direct": "encoding=direct makes steps out of images, and the samples of dataset=nmnist have time already; leave encoding out, or type encoding=frames",
    "encoding=frames": "encoding=frames reads samples with time, and dataset=digits has images; leave encoding out, or choose data with time such as dataset=digits_dvs",
    "encoding.standardize=false": "encoding.standardize cannot be combined with encoding=auto, which is direct here; type encoding=direct encoding.standardize=...",
    "surrogate.width=2": "surrogate.width cannot be combined with surrogate=auto, which is atan here; type surrogate=atan surrogate.width=...",
    "dataset=digit_dvs": "There is no dataset 'digit_dvs'; allowed: arrays, basic_motions, cifar10, cifar100, cifar10_dvs, digits, digits_200, digits_clutter, digits_dvs, dvs_gesture, fashion_dvs, fashion_mnist, gunpoint, images, italy_power_demand, japanese_vowels, mnist, nmnist, series, svhn; did you mean digits_dvs? Type dataset=digits_dvs",
    "neuron=lif,plif": "neuron=lif,plif is a sweep of several values; add -m to run each of them",
    "-m optim.lr=shuffle(0.1,0.2),0.3": "optim.lr=shuffle(0.1,0.2),0.3 is a sweep within a sweep; name all its values in one, such as seed=0,1,2",
    "--shell-completion install=bash": "--shell-completion is Hydra's, which completes no commands; type snn-exp completion bash",
    "seed=" + "1," * 300 + "1": "seed="
    + "1," * 97
    + "1[...]"
    + ",1" * 20
    + " is a sweep of several values; add -m to run each of them",
    "~neuron": "~neuron would leave a run without its neuron; leave it out for neuron=lif",
}


@pytest.mark.parametrize("command", ERRORS)
def test_a_fault_is_one_sentence_and_exit_code_2(
    command: str, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    assert main.main(["train", *command.split()]) == 2
    assert capsys.readouterr().err == f"snn-exp: {ERRORS[command]}\n"
    assert not output.exists(), "nothing is written"


def test_an_override_that_cannot_be_read_says_what_one_looks_like(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "neuron=["]) == 2
    assert capsys.readouterr().err.endswith("; an override looks like neuron=lif or neuron.tau=3\n")


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["trian"]) == 2
    assert "did you mean train? Type snn-exp train" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written_is_said_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "file" / "below"))
    assert main.main(["train", "logger=none"]) == 2
    error = capsys.readouterr().err
    assert f"the output folder {tmp_path / 'file' / 'below'} cannot be written" in error
    assert "set SNN_EXP_OUTPUT to one that can" in error


@pytest.mark.parametrize(
    "command", [["train"], ["train", "-m", "seed=0,1"], ["plan"], ["runs"], ["report", "neuron=lif"]]
)
@pytest.mark.parametrize(
    "kind", ["a file", "below a file", "a dangling link", "a loop of links", "a name too long", "bytes"]
)
def test_an_output_folder_that_is_none_is_one_sentence_of_every_command(
    kind: str, command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, why = {
        "a file": (tmp_path / "file", "is not a folder"),
        "below a file": (tmp_path / "file" / "below" / "it", "file is not a folder"),
        "a dangling link": (tmp_path / "link", "is a broken link"),
        "a loop of links": (tmp_path / "loop", "Too many levels of symbolic links"),
        "a name too long": (tmp_path / ("x" * 300), "File name too long"),
        "bytes": (tmp_path / os.fsdecode(b"\xff"), "its name is not valid UTF-8"),
    }[kind]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(place))
    assert main.main([*command, *(["logger=none"] if command[0] == "train" else [])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("snn-exp: the output folder ")
    assert error.endswith(f"{why}); set SNN_EXP_OUTPUT to one that can\n")


def test_a_disk_without_room_is_said_before_a_sweep_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main.main(["train", "-m", "seed=0,1"]) == 2
    assert capsys.readouterr().err == (
        f"snn-exp: the disk of the output folder {output} is full; make room there, or set SNN_EXP_OUTPUT to another one\n"
    )
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("words", [["--help"], ["options", "energy"]], ids=["a text", "a table"])
def test_who_has_read_enough_ends_a_command_without_a_word(words: list[str]) -> None:
    command = [sys.executable, "-c", "from snn_exp.cli.main import entry_point; entry_point()", *words]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("x", "--picture x has no image extension; type one of .png, .pdf, .svg"),
        ("/dev/null/x.png", "/dev/null/x.png cannot be written (File exists); name another file"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_one_sentence(
    file: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["show", "dataset=digits_200", "network.width=4", "--picture", file]) == 2
    assert capsys.readouterr().err == f"snn-exp: {says}\n"


def test_broken_yaml_is_one_sentence_that_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "broken.yaml").write_text("a: [\n")
    assert main.main(["train", "--config-dir", str(tmp_path), "experiment=broken"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"snn-exp: {tmp_path / 'experiment' / 'broken.yaml'} is broken YAML: ")
    assert len(error.splitlines()) == 1
    assert not output.exists()


def test_data_that_is_not_there_without_a_network_says_where_to_place_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    from torchvision.datasets import mnist

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(mnist, "download_and_extract_archive", unreachable)
    monkeypatch.setenv("SNN_EXP_DATA", str(tmp_path / "data"))
    assert main.main(["train", "dataset=mnist"]) == 2
    error = capsys.readouterr().err
    assert f"the data set MNIST is not in {tmp_path / 'data'}" in error
    assert "train-images-idx3-ubyte" in error and "SNN_EXP_DATA" in error
    assert not output.exists() and not (tmp_path / "data").exists()


def test_a_sweep_with_a_refused_cell_trains_nothing_and_names_it(
    capsys: pytest.CaptureFixture[str], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "run_hydra", lambda *_: pytest.fail("it was launched"))
    assert main.main(["train", "-m", "neuron=lif,sign", "norm=psp,bn"]) == 2
    error = capsys.readouterr().err
    assert "refused neuron=sign norm=psp: norm=psp does nothing with neuron=sign" in error
    assert "1 of 4 runs are refused, so none is trained" in error
    assert not output.exists()


def test_skip_refused_hands_over_the_rest(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    monkeypatch.setattr(launch, "train_all", lambda configs, *_, **__: launched.append(configs) or [])
    main.main(["train", "-m", "neuron=lif,sign", "norm=psp,bn", "--skip-refused"])
    assert len(launched) == 1
    assert len(launched[0]) == 3
    assert "3 runs: 0 done before, 3 to train" in capsys.readouterr().out


def test_runs_that_did_not_end_are_named_and_the_exit_code_is_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "run_hydra", lambda *_: None)
    assert main.main(["train", "-m", "seed=0,1"]) == 1
    assert capsys.readouterr().err.count("snn-exp: failed lif+bn pre d8 digits seed=") == 2


def test_commands_that_train_nothing_import_no_lightning(finished: Finished, tmp_path: Path) -> None:
    _, result = finished()
    np.savez(tmp_path / "given.npz", x=np.zeros((2, 1, 8, 8)))
    run = result.run_id
    commands = [["eval", run], ["fold", run, "--int8"], ["export", run, "--format=safetensors"], ["show"],
                ["predict", run, str(tmp_path / "given.npz")]]  # fmt: skip
    code = (
        "import sys; from snn_exp.cli.main import main\n"
        f"assert [main(words) for words in {commands!r}] == [0] * {len(commands)}\n"
        "print([name for name in ('pytorch_lightning', 'torchmetrics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")


def test_help_needs_no_torch_and_composing_needs_none_either() -> None:
    code = (
        "import sys; from snn_exp.cli.main import main; main(['--help']); assert 'torch' not in sys.modules\n"
        "assert 'hydra' not in sys.modules\n"
        "from snn_exp.config import compose\n"
        "from snn_exp.cli import options\n"
        "from snn_exp.reporting import summary\n"
        "from snn_exp.sweeps import progress\n"
        "from snn_exp.config import schemas\n"
        "schemas.load(); before = 'torch' in sys.modules\n"
        "compose.compose(['neuron=lif']); main(['options', 'neuron'])\n"
        "assert before or 'torch' not in sys.modules\n"
        "print('cold' if before else 'warm')"
    )
    for expected in ("", "warm"):  # the first run may have to write the menu
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "usage: snn-exp COMMAND" in done.stdout
        assert done.stdout.strip().endswith(expected)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_file_of_its_name_and_a_line_of_the_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    assert command.load().__module__ == f"snn_exp.cli.{name}"
    assert main.main(["--help"]) == 0
    assert f"\n  {name} {command.takes}".rstrip() in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: snn-exp {name} ")


def test_options_json_lists_what_lies_in_the_folders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["options", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)
    assert set(groups["neuron"]) == set(NEURONS.split(", "))
    assert groups["depth"] == ["d8", "d14", "d20", "d32", "d44", "d56", "d110", "d206", "d1202"]
    assert all(set(names) == {f.stem for f in (config_dir() / g).glob("*.yaml")} for g, names in groups.items())


def test_options_of_one_option_prints_each_parameter_with_its_default_range_and_unit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["options", "neuron=lif"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert text.startswith("neuron=lif: ")
    assert "neuron.tau 2 a float > 1 [steps] membrane time constant." in text
    assert main.main(["options", "energy=h45_int8"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "energy.mac_pj 0.23 a float > 0 [pJ]" in text


def test_options_of_a_group_has_one_row_per_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["options", "neuron"]) == 0
    text = capsys.readouterr().out
    assert "tau=2" in text and "snn-exp options neuron=" in text
    assert len(text.splitlines()) < 100
    assert main.main(["options", "energy"]) == 0
    assert "weight_pj=50" in capsys.readouterr().out.replace("\n", "")


def test_options_alone_lists_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["options"]) == 0
    text = capsys.readouterr().out
    assert "surrogate" in text and "lif" in text and len(text.splitlines()) < 80


def test_options_of_an_unknown_group_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["options", "neurons"]) == 2
    assert "did you mean neuron?" in capsys.readouterr().err
    assert main.main(["options", "neuron=lfi"]) == 2
    assert "did you mean lif? Type snn-exp options neuron=lif" in capsys.readouterr().err


def test_show_prints_config_shapes_parameters_and_macs(capsys: pytest.CaptureFixture[str], output: Path) -> None:
    assert main.main(["show", "neuron=lif", "network.width=8"]) == 0
    text = capsys.readouterr().out
    assert "num_steps: 4" in text
    assert "(4, 1, 8, 8, 8)" in text
    # by hand: T (stem 8*9*64 + 3 stages of 2 convs), the classifier once, after the mean over time
    stage = 2 * 8 * 8 * 9 * 64 + (8 + 16) * 16 * 9 * 16 + (16 + 32) * 32 * 9 * 4
    assert f"{4 * (8 * 9 * 64 + stage) + 32 * 10:,}" in text
    assert "Var(u)" in text and "dead channels" in text
    assert not output.exists(), "show writes nothing"


def test_show_draws_the_untrained_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["show", "network.width=4", "--picture", str(tmp_path / "layers.png")]) == 0
    assert f"written: {tmp_path / 'layers.png'}" in capsys.readouterr().out
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


def test_show_compares_initialisations_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["show", "neuron=relu", "norm=none", "network.width=4", "--inits"]) == 0
    table = capsys.readouterr().out.partition("initialisations, untrained")[2]
    for init in ("kaiming", "psp", "lsuv"):
        (row,) = [line for line in table.splitlines() if f" {init} " in line]
        assert row.count("/") == 3 * 2, "first / median / last of three quantities"
    assert "init=spiking is for spikes" in table, "what is refused says why"


def test_doctor_looks_at_versions_devices_data_output_and_wandb(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_wandb(package: str) -> str:
        if package == "wandb":
            raise PackageNotFoundError
        return version(package)

    monkeypatch.setattr(machine, "version", without_wandb)
    assert main.main(["doctor"]) == 0, "W&B is an extra"
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("torch", "cpu", "gpu", "data digits", "data mnist", "outputs", "kernels", "W&B")
    )


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("experiment=null", "There is no experiment 'null'; allowed: fashion_relu, fashion_s2nn, quick, steps_4, steps_4_2, steps_4_2_1"),
        ("--config-dir /nowhere", "--config-dir /nowhere is not a folder; it must hold folders such as experiment/"),
        ("-m optim.lr=interval(1,2)", "optim.lr=interval(1,2) is a range without steps, and a sweep takes values; name them, as in -m optim.lr=A,B,C, or type snn-exp search with the same overrides, which draws from ranges"),
        ("neuron.tau.x=3", "neuron.tau={'x': 3} is not allowed: neuron.tau must be a float > 1 [steps]; the default is neuron.tau=2.0"),
        ("hydra/launcher=nope", "There is no hydra/launcher 'nope'; allowed: basic, joblib, ray, submitit_local, submitit_slurm"),
    ],
)  # fmt: skip
def test_what_hydra_trips_over_is_one_sentence_as_well(
    command: str, sentence: str, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    assert main.main(["train", *command.split()]) == 2
    assert capsys.readouterr().err == f"snn-exp: {sentence}\n"
    assert not output.exists()


def test_a_folder_where_a_page_is_to_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_the_way(*_: Any) -> int:
        (tmp_path / "file").touch()
        (tmp_path / "README.md").mkdir()
        (tmp_path / "file").replace(tmp_path / "README.md")
        return 0

    monkeypatch.setitem(COMMANDS, "runs", in_the_way)
    assert main.main(["runs"]) == 2
    assert capsys.readouterr().err == (
        f"snn-exp: {tmp_path / 'README.md'} is in the way (Is a directory); move it, or make it writable, and type the "
        f"same command again\n"
    )
