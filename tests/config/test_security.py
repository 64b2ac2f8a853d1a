"""What SECURITY.md promises: no file that one can be sent runs code or writes outside the output root."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from snn_exp.cli import main
from snn_exp.config import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.sweeps import launch, workers
from snn_exp.training import job, train

WORD = "_tar" + "get_"  # a test of the package looks for it in files
TINY = ["network.width=4", "logger=none", "neuron=s2nn", "trainer.max_epochs=1", "optim.batch_size=128"]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not come into being."""
    canary = tmp_path / "canary"
    yield canary
    assert not canary.exists(), "a file that was sent wrote outside the output root, or ran code"


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """A folder of configs from a stranger."""
    folder = tmp_path / "sent"
    (folder / "experiment").mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes as far as a run has been let through."""

    def trained(config: ExperimentConfig, **_: object) -> None:
        return None

    monkeypatch.setattr(job, "run_or_store_failure", trained)
    monkeypatch.setattr(train, "run", lambda *_, **__: pytest.fail("it was trained"))


def write(folder: Path, content: Any, place: str = "experiment/x.yaml", header: str = "# @package _global_\n") -> None:
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(header + (content if isinstance(content, str) else yaml.safe_dump(content)))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence that refuses a command line, within 5 s."""
    began = time.process_time()
    assert main.main(list(arguments)) == 2
    assert time.process_time() - began < 5
    error = capsys.readouterr().err
    assert error.startswith("snn-exp: ") and len(error.splitlines()) == 1 and "Traceback" not in error
    return error.removeprefix("snn-exp: ").rstrip()


def calls(canary: Path) -> dict[str, dict[str, Any]]:
    """What a stranger would like to have called."""
    hub = canary.parent / "hub"
    hub.mkdir(exist_ok=True)
    (hub / "hubconf.py").write_text(f"def m():\n    open({str(canary)!r}, 'w')\n")
    return {
        "torch.hub": {WORD: "torch.hub.load", "repo_or_dir": str(hub), "model": "m", "source": "local"},
        "write_text": {WORD: "pathlib.Path.write_text", "self": {WORD: "pathlib.Path", "_args_": [str(canary)]}, "data": "x"},
        "logging": {WORD: "logging.FileHandler", "filename": str(canary)},
        "copytree": {WORD: "shutil.copytree", "src": str(hub), "dst": str(canary)},
        "subprocess": {WORD: "subprocess.run", "args": ["touch", str(canary)]},
        "popen": {WORD: "os.system", "command": f"touch {canary}"},
    }  # fmt: skip


PLACES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "callbacks": lambda call: {"callbacks": {"x": call}},
    "launcher": lambda call: {"launcher": call},
    "sweeper": lambda call: {"sweeper": call},
    "below launcher": lambda call: {"launcher": {"x": call}},
    "below sampler": lambda call: {"sweeper": {"sampler": call}},
    "a list": lambda call: {"launcher": {"n_jobs": [call]}},
    "job_logging": lambda call: {"job_logging": {"handlers": {"x": {"()": call[WORD], **call}}, "root": {"handlers": ["x"]}}},
    "hydra_logging": lambda call: {"hydra_logging": {"handlers": {"x": {"class": call[WORD], **call}}}},
    "help": lambda call: {"help": {"template": "x", "footer": str(call)}},
    "params": lambda call: {"sweeper": {"params": {"+hydra.callbacks.x": "{" + f"{WORD}: {call[WORD]}" + "}"}}},
    "params of a group": lambda call: {"sweeper": {"params": {"hydra/launcher": "x"}}},
    "overrides": lambda call: {"overrides": {"hydra": [f"+hydra.callbacks.x.{WORD}={call[WORD]}"]}},
}  # fmt: skip


CALLS = [("callbacks", call) for call in ("torch.hub", "write_text", "logging", "copytree", "subprocess")]


@pytest.mark.parametrize(("place", "call"), [*CALLS, *((place, "popen") for place in PLACES)])
def test_an_experiment_calls_nothing(
    place: str, call: str, sent: Path, canary: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    write(sent, {"hydra": PLACES[place](calls(canary)[call])})
    assert "hydra" in refusal(capsys, "train", "-m", "--config-dir", str(sent), "experiment=x", "seed=0,1", *TINY)
    assert not output.exists()


@pytest.mark.parametrize(
    "command", [["train"], ["plan"], ["show"], ["search"], ["train", "--cfg", "all"], ["train", "--info", "config"],
                ["train", "--hydra-help"], ["train", "-m", "--skip-refused", "norm=bn,none"]]
)  # fmt: skip
def test_no_command_that_reads_a_folder_calls_what_it_names(
    command: list[str], sent: Path, canary: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    write(sent, {"hydra": PLACES["callbacks"](calls(canary)["popen"])})
    assert "hydra" in refusal(capsys, *command, "--config-dir", str(sent), "experiment=x", *TINY)
    assert not output.exists()


def test_a_method_of_a_sweep_calls_nothing_either(
    sent: Path, canary: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    write(sent, {"hydra": PLACES["callbacks"](calls(canary)["popen"])}, "method/x.yaml")
    assert main.main(["train", "-m", "--config-dir", str(sent), "method=x,lif_bn", *TINY]) == 2
    assert "refused method=x" in capsys.readouterr().err and not output.exists()


SETTINGS: dict[str, Any] = {
    "job": {"env_set": {"LD_PRELOAD": "/tmp/x.so", "PYTHONSTARTUP": "/tmp/x.py"}},
    "job ": {"env_copy": ["HOME", "NOT_THERE"]},
    "job  ": {"chdir": True},
    "job   ": {"name": "../../x"},
    "run": {"dir": "/tmp/elsewhere"},
    "sweep": {"dir": "/tmp/elsewhere"},
    "sweep ": {"subdir": "../../x"},
    "output_subdir": "../../x",
    "searchpath": ["pkg://os"],
    "verbose": True,
    "runtime": {"output_dir": "/tmp/x"},
    "launcher": {"temp_folder": "/tmp/x"},
    "launcher ": {"n_jobs": "${oc.env:HOME}"},
    "launcher  ": {"n_jobs": "1\ntouch x"},
    "mode": "${oc.env:HOME}",
    "env": {"x": 1},
    "unheard_of": 1,
}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_file_sets_of_hydras_own_only_what_is_listed(
    key: str, sent: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    write(sent, {"defaults": [{"override /hydra/launcher": "joblib"}], "hydra": {key.strip(): SETTINGS[key]}})
    refusal(capsys, "train", "-m", "seed=0,1", "--config-dir", str(sent), "experiment=x", *TINY)
    assert not output.exists()


@pytest.mark.parametrize(
    ("place", "chosen"),
    [
        ("hydra/callbacks/x.yaml", "hydra/callbacks=x"),
        ("hydra/callbacks/x.yaml", "+hydra/callbacks=x"),
        ("hydra/callbacks/x.yaml", "hydra/callbacks@hydra.sweep=x"),
        ("hydra/job_logging/x.yaml", "hydra/job_logging=x"),
        ("hydra/launcher/x.yaml", "hydra/launcher=x"),
        ("hydra/launcher/joblib.yaml", "hydra/launcher=joblib"),
        ("hydra/launcher/basic.yaml", "seed=0,1"),
        ("hydra/sweeper/basic.yaml", "seed=0,1"),
        ("hydra/output/x.yaml", "hydra/output=x"),
        ("hydra/config.yaml", "seed=0,1"),
        ("experiment/x.yaml", "experiment@hydra.callbacks=x"),
        ("experiment/x.yaml", "+experiment@hydra.callbacks.y=x"),
        ("norm/x.yaml", "norm@hydra.launcher=x"),
    ],
)
def test_no_group_of_hydras_comes_out_of_a_folder(
    place: str, chosen: str, sent: Path, canary: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    write(sent, calls(canary)["subprocess"], place, header="")
    refusal(capsys, "train", "-m", "--config-dir", str(sent), chosen, *TINY)
    assert not output.exists()


HEADERS = ["# @package hydra.callbacks.x\n", "# @package hydra\n", "# @package _global_.hydra.launcher\n"]


@pytest.mark.parametrize(("header", "group"), [*zip(HEADERS, ["norm", "method", "experiment"], strict=True)])
def test_a_header_brings_no_file_under_hydra(
    header: str, group: str, sent: Path, canary: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    call = calls(canary)["subprocess"]
    write(sent, {"callbacks": {"x": call}} if header == HEADERS[1] else call, f"{group}/x.yaml", header)
    sentence = refusal(capsys, "train", "-m", "--config-dir", str(sent), f"{group}=x", "seed=0,1", *TINY)
    assert "sets hydra.callbacks.x" in sentence or "there is no key hydra.launcher.args" in sentence
    assert not output.exists()


@pytest.mark.parametrize(
    "typed",
    [
        f"hydra.launcher.{WORD}=os.system",
        f"+hydra.callbacks.x.{WORD}=os.system",
        f"++hydra.sweeper.x.{WORD}=os.system",
        f"+hydra.launcher.x=[{{{WORD}: os.system}}]",
        f"hydra={{callbacks: {{x: {{{WORD}: os.system}}}}}}",
        f"+hydra.sweeper.params={{hydra.launcher.{WORD}: os.system}}",
        "hydra.sweeper.params={+hydra/callbacks: x}",
        "+hydra.sweeper.custom_search_space=os.system",
        "~hydra.launcher",
        "~hydra.launcher.n_jobs",
        "hydra/callbacks=log",
        "hydra.job.env_set={LD_PRELOAD: x}",
        "+hydra.job.env_set.LD_PRELOAD=x",
        "hydra.run.dir=/tmp/x",
        "hydra.sweep.dir=/tmp/x",
        "hydra.sweep.dir=${hydra.sweep.dir}",
        "hydra.searchpath=[pkg://os]",
        "+hydra.searchpath=[pkg://os]",
        "hydra.output_subdir=../x",
        "hydra.verbose=true",
        "hydra.launcher.n_jobs=1,2",
        "hydra.sweeper.params.seed=1,2",
        "hydra/launcher=basic,joblib",
        "hydra/job_logging=default",
        "hydra/env=x",
    ],
)
def test_what_is_typed_calls_nothing_by_name(typed: str, capsys: pytest.CaptureFixture[str], output: Path) -> None:
    refusal(capsys, "train", "-m", "seed=0,1", typed, *TINY)
    assert not output.exists()


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--config-name", "-cn", "--config-path", "-cp", "--run"])
def test_flags_of_hydras_that_read_other_files_are_not_taken(
    flag: str, canary: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = tmp_path / "x.pickle"
    payload.write_bytes(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())
    for arguments in (["train", flag, str(payload)], ["train", "--cfg", "job", flag, str(payload)]):
        sentence = refusal(capsys, *arguments)
        assert f"There is no flag '{flag}'" in sentence or "--cfg/-c: invalid choice" in sentence
    assert not output.exists()


def test_what_is_plain_may_be_set_by_a_file_and_comes_through(
    sent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        sent,
        {
            "defaults": [{"override /hydra/launcher": "joblib"}],
            "hydra": {"mode": "MULTIRUN", "launcher": {"n_jobs": 3}, "sweeper": {"params": {"seed": "0,1"}}},
        },
    )
    asked: list[list[str]] = []
    monkeypatch.setattr(launch, "run_hydra", lambda arguments, job: asked.append(list(arguments)))
    monkeypatch.setattr(workers, "warm_up", lambda *_: None)
    main.main(["train", "--config-dir", str(sent), "experiment=x", "hydra.launcher.verbose=2", *TINY])
    (arguments,) = asked
    assert {"hydra/launcher=joblib", "++hydra.launcher.n_jobs=3", "++hydra.launcher.verbose=2"} <= set(arguments)
    assert not any("experiment" in argument or "config-dir" in argument for argument in arguments)


def test_a_file_that_changes_after_it_was_checked_is_not_read_again(
    sent: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    write(sent, {"hydra": {"mode": "MULTIRUN"}})
    find = launch.ready_launcher

    def change(*arguments: Any) -> Any:
        found = find(*arguments)
        write(sent, {"hydra": {"mode": "MULTIRUN", "callbacks": {"x": calls(canary)["subprocess"]}}})
        return found

    monkeypatch.setattr(launch, "ready_launcher", change)
    assert main.main(["train", "--config-dir", str(sent), "experiment=x", "seed=0", *TINY]) == 1
    assert (output / "hydra").is_dir()


def deep(levels: int) -> str:
    return "seed: " + "[" * levels + "]" * levels + "\n"


BOMBS = {
    "laughs": "a: &a [x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ),
    "itself": "a: &a [*a]\n",
    "deep": deep(100_000),
    "less deep": deep(200),
    "deep enough": deep(20),
    "large": "a: " + "x" * 1_000_000 + "\n",
    "many": "".join(f"k{i}: {i}\n" for i in range(10_000)),
    "digits": f"seed: {'9' * 5_000}\n",
    "python": "seed: !!python/object/apply:os.system ['touch x']\n",
    "path": "seed: !!python/object/apply:pathlib.Path ['x']\n",
    "binary": "seed: !!binary aGVsbG8=\n",
    "a set": "seed: !!set {x}\n",
    "no mapping": "- a\n",
    "scalar": "x\n",
    "tab": "a:\n\t- b\n",
    "number as a key": "neuron: {1.5: x}\n",
    "null as a key": "neuron: {null: x}\n",
    "list in defaults": "defaults: [[x]]\n",
    "key": "? [a, b]\n: c\n",
    "no key": "neuron: {null: 1}\n",
    "twice": "seed: 1\nseed: 2\n",
    "itself in defaults": "defaults: [/experiment/x]\n",
    "each other": "defaults: [/experiment/y]\n",
    "defaults no list": "defaults: 5\n",
    "defaults of two": "defaults: [{a: b, c: d}]\n",
    "defaults of none": "defaults: [{}]\n",
    "defaults of null": "defaults: [null]\n",
    "defaults of a number": "defaults: [{/norm: 5}]\n",
    "self twice": "defaults: [_self_, _self_]\n",
    "elsewhere": "defaults: [/../../outside]\n",
    "elsewhere too": "defaults: [../../outside]\n",
    "a package": "defaults: [{/norm@..: bn}]\n",
    "grows": "defaults: [/experiment/g1@a.a, /experiment/g1@a.b]\n",
    "resolver": "dataset: {split_seed: '${now:%Y}'}\n",
    "creates": "dataset: {split_seed: '${oc.create:{a: 1}}'}\n",
    "unbalanced": "dataset: {split_seed: '${'}\n",
    "nested": "dataset: {split_seed: '" + "${" * 500 + "'}\n",
    "loop": "dataset: {split_seed: '${dataset.split_seed}'}\n",
    "nowhere": "dataset: {split_seed: '${nowhere.at.all}'}\n",
    "doubles": "neuron:\n" + "".join(f"  k{i}: ${{neuron.k{i + 1}}}${{neuron.k{i + 1}}}\n" for i in range(60)) + "  k60: x\n",
    "doubles in lists": "neuron:\n" + "".join(
        f"  k{i}: ['${{neuron.k{i + 1}.0}}${{neuron.k{i + 1}.0}}']\n" for i in range(60)
    ) + "  k60: [x]\n",
    "not text": "\0",
    "not UTF-8": "",
    "a pipe": "",
    "a link": "",
    "a large link": "",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_config_that_cannot_be_read_is_a_sentence_within_five_seconds(
    bomb: str, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    write(sent, BOMBS[bomb])
    file = sent / "experiment" / "x.yaml"
    (tmp_path / "outside.yaml").write_text("seed: 1\n")
    write(sent, "defaults: [/experiment/x]\n", "experiment/y.yaml")
    for i in range(1, 30 if bomb == "grows" else 0):
        write(sent, f"defaults: [/experiment/g{i + 1}@c, /experiment/g{i + 1}@d]\n", f"experiment/g{i}.yaml", "")
    write(sent, "x: 1\n", "experiment/g30.yaml", "")
    if bomb == "not UTF-8":
        file.write_bytes(b"seed: \xff\xfe\n")
    elif bomb == "a pipe":
        file.unlink()
        os.mkfifo(file)
    elif "link" in bomb:
        file.unlink()
        file.symlink_to("/dev/zero" if "large" in bomb else tmp_path / "outside.yaml")
    refusal(capsys, "train", "--config-dir", str(sent), "experiment=x", *TINY)
    assert not output.exists()


@pytest.mark.parametrize("value", ["${oc.env:SEED}", "${oc.env:SEED,5}", "${oc.decode:${oc.env:SEED}}", "${seed}"])
def test_an_interpolation_may_name_a_key_or_an_environment_variable(
    value: str, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED", "7")
    write(sent, {"dataset": {"split_seed": value}})
    if "decode" in value or "seed" in value:
        assert compose.compose(["experiment=x", "seed=7"], [str(sent)]).dataset["split_seed"] == 7
    else:
        with pytest.raises(UserError, match="split_seed"):  # text: the rules want a number
            compose.compose(["experiment=x"], [str(sent)])


PACKAGE = Path(main.__file__).parents[1]
MODULES_THAT_UNPICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLED_NEVER = {
    "eval", "compile", "__import__", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "pd.read_pickle", "pandas.read_pickle", "hydra.utils.instantiate", "hydra.utils.call", "instantiate",
}  # fmt: skip
EXPECTED = {  # what looks dangerous, and why it is not
    "__init__.py: importlib.import_module": "of a module of ours, for a name in __all__",
    "cli/allocator.py: ctypes.CDLL": "the C library of this very process",
    "nn/kernels/passes.py: exec": "the source is made of forms.KERNELS, which are ours",
    "nn/kernels/passes.py: compile": "the same",
    "config/schemas.py: importlib.import_module": "of a module that menu.REGISTRIES names",
    "cli/commands.py: importlib.import_module": "of a file of cli/ whose name is in COMMANDS",
    "nn/kernels/build.py: ctypes.CDLL": "a library that was compiled here, in the user's own cache and not in outputs/",
    "sweeps/workers.py: import joblib": "its processes, which Hydra's launcher starts all the same; nothing is loaded",
    "sweeps/workers.py: import joblib.externals.loky": "the same",
    "files.py: yaml.load": "with a subclass of the safe loader",
}


def dangers(source: str, name: str) -> list[str]:
    """The calls of a file that may run what they read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{name}: import {m}" for m in modules if m.partition(".")[0] in MODULES_THAT_UNPICKLE]
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        wanted = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False")}.get(called)
        if wanted and keywords.get(wanted[0]) != wanted[1]:
            found.append(f"{name}: {called} without {'='.join(wanted)}")
        if "ckpt_path" in keywords and keywords.get("weights_only") != "True":
            found.append(f"{name}: {called} with ckpt_path and without weights_only=True")
        if keywords.get("shell", "False") != "False":
            found.append(f"{name}: {called} with a shell")
        if called in {*CALLED_NEVER, "exec", "importlib.import_module", "ctypes.CDLL", "yaml.load"} or called.endswith(
            (".extractall", ".load_from_checkpoint", ".load_state_dict_from_url")
        ):
            found.append(f"{name}: {called}")
    return found


def test_the_package_has_no_call_that_runs_what_it_reads() -> None:
    found = {
        danger
        for file in PACKAGE.rglob("*.py")
        for danger in dangers(file.read_text(), file.relative_to(PACKAGE).as_posix())
    }
    assert found == set(EXPECTED)


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)",
     "np.load(p, allow_pickle=True)", "trainer.fit(t, ckpt_path=p)", "subprocess.run(c, shell=True)", "eval(x)",
     "archive.extractall(p)", "yaml.load(t, Loader=x)", "hydra.utils.instantiate(c)"],
)  # fmt: skip
def test_such_a_call_is_found(source: str) -> None:
    assert len(dangers(source, "x.py")) == 1


def test_a_stored_array_of_objects_is_not_unpickled(tmp_path: Path, canary: Path) -> None:
    import numpy as np

    from snn_exp.data.event_camera import cached

    made = {"x": np.arange(3)}
    cached(tmp_path, "events", {"a": 1}, lambda: made)
    (file,) = tmp_path.glob("events-*.npz")
    np.savez(file, x=np.array([Payload(canary)], dtype=object))
    assert np.array_equal(cached(tmp_path, "events", {"a": 1}, lambda: made)["x"], made["x"])


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def test_a_checkpoint_with_a_payload_is_not_unpickled(
    tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from snn_exp.runs.folder import RunFolder

    monkeypatch.undo()
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    command = ["dataset=digits_200", *TINY]
    folder = RunFolder.of(compose.compose(command))
    folder.checkpoints.mkdir(parents=True)
    for name in ("last.ckpt", "latest.ckpt"):
        torch.save({"state_dict": Payload(canary), "epoch": 0, "global_step": 1}, folder.checkpoints / name)
    assert main.main(["train", *command]) == 0
    log = (folder.path / "train.log").read_text()
    assert "is damaged (torch cannot load it: UnpicklingError" in log and "; the run starts over\n" in log
    assert not canary.exists()


def test_an_option_that_sets_nothing_of_its_own_group_is_a_sentence(
    sent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sent, {"energy": {"name": "x"}}, "neuron/x.yaml")
    command = ["train", "--config-dir", str(sent), "-m", "norm=bn,none", "network.width=4", "logger=none"]
    assert "no config file says what neuron is" in refusal(capsys, *command, "neuron=x")
    assert main.main([*command, "neuron=x,lif"]) == 2
    assert "refused norm=bn network.width=4 logger=none neuron=x: no config file says" in capsys.readouterr().err
