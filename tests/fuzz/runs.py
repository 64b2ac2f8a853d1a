"""Run folders that an accident or a stranger has changed, and every command that reads them."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.fuzz import hostile
from tests.fuzz.base import BEGUN, BROKEN, DIVERGED, LIF, S2NN, SRM, run_folders
from tests.fuzz.box import TINY, Box, tiny
from tests.fuzz.calls import ANY, Call

COMMANDS = {
    "runs": 8, "runs filtered": 5, "runs clean": 5, "report": 14, "plan": 5, "train that": 6, "train other": 4, "train -m": 5, "diff": 7, "eval": 8,
    "verify": 0.6, "fold": 6, "export": 5, "load": 8, "load_exported": 4, "teacher": 4, "init_from": 3, "pack": 3, "predict": 3, "dashboard": 2,
    "interrupted": 3,
}  # fmt: skip
COSTLY = 0.35  # of the trainings, those that are done


def _samples() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((2, 1, 8, 8), np.uint8))
    return buffer.getvalue()


SAMPLES = _samples()


def _metrics(rng: random.Random, path: Path) -> str:
    """Wrong columns, rows and numbers in a CSV file."""
    lines = path.read_text().splitlines()
    what = rng.choice(
        (
            "columns",
            "shuffled",
            "short",
            "long",
            "word",
            "nan",
            "twice",
            "order",
            "huge",
            "quote",
            "no header",
            "escape",
            "binary",
        )
    )
    match what:
        case "columns":
            lines[0] = lines[0].replace("epoch", rng.choice(("", "x", hostile.FORMULA)))
        case "shuffled":
            lines[0] = ",".join(rng.sample(lines[0].split(","), lines[0].count(",") + 1))
        case "short":
            lines[-1] = lines[-1].rpartition(",")[0]
        case "long":
            lines[-1] += ",1,2,3"
        case "word":
            lines[-1] = ",".join(
                rng.choice((cell, hostile.text(rng).replace("\n", " "))) for cell in lines[-1].split(",")
            )
        case "nan":
            lines[-1] = ",".join(rng.choice((cell, "nan", "inf", "-inf", "")) for cell in lines[-1].split(","))
        case "twice":
            lines += lines
        case "order":
            lines.reverse()
        case "huge":
            lines += [lines[-1].replace("0", "9" * 400)] * 3
        case "quote":
            lines[-1] = '"' + lines[-1]
        case "no header":
            del lines[0]
        case "escape":
            lines[0] += f",val/firing_rate/{hostile.ESCAPE}{hostile.SCRIPT}"
            lines[1:] = [line + ",0.5" for line in lines[1:]]
        case _:
            lines.append("1,\x00,\x01")
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    return f"{path.name}: {what}"


def _json(rng: random.Random, path: Path) -> str:
    value, said = hostile.retouched(rng, json.loads(path.read_text()))
    path.write_text(hostile.json_text(value))
    return f"{path.name}: {said}"


def _labels(rng: random.Random, path: Path) -> str:
    """Texts that mean something where they are shown, at places that are shown."""
    content = json.loads(path.read_text())
    text = rng.choice(hostile.TEXTS)
    config = content.get("config", {})
    group, key = rng.choice(
        (
            ("energy", "name"),
            ("neuron", "name"),
            ("dataset", "name"),
            ("norm", "name"),
            ("logger", "group"),
            ("residual", "name"),
            ("optim", "schedule"),
            ("network", "name"),
        )
    )
    where = rng.choice(
        ("config", "config", "experiment", "teacher", "status", "finished_at", "layers", "metrics", "error", "versions")
    )
    if where == "config" and isinstance(config.get(group), dict):
        config[group][key] = text
    elif where in ("experiment", "teacher"):
        config[where] = text
    elif where in ("layers", "metrics") and isinstance(content.get(where), dict):
        content[where][text] = rng.choice((0.5, [0.5], {"firing_rate": [0.1]}, text))
    else:
        content[where] = text
    path.write_text(hostile.json_text(content))
    return f"{path.name}: {where} {group if where == 'config' else ''} says {text[:40]!r}"


def _weights(rng: random.Random, path: Path) -> str:
    """Whole weights of another network, type or with no number in them."""
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(path)
    what = rng.choice(("drop", "shape", "nan", "dtype", "name", "empty", "huge", "metadata", "more", "header"))
    if not state:
        return hostile.accident(rng, path)
    name = rng.choice(sorted(key for key in state if state[key].is_floating_point()) or sorted(state))
    if what == "drop":
        del state[name]
    elif what == "shape":
        state[name] = torch.zeros(3, 3)
    elif what == "nan":
        state[name] = torch.full(state[name].shape, float("nan"))
    elif what == "dtype":
        state[name] = state[name].to(rng.choice((torch.int8, torch.bool, torch.float64, torch.bfloat16)))
    elif what == "name":
        state[rng.choice(hostile.TEXTS[3:])] = state.pop(name)
    elif what == "empty":
        state = {}
    elif what == "huge":
        state[name] = torch.full(state[name].shape, 1e30)
    elif what == "more":
        state["more"] = torch.zeros(2)
    metadata = None
    if what == "metadata" or (path.parent.name == "export" and what != "header"):
        stored = _metadata(path)
        if what == "metadata":
            stored = _odd_metadata(rng, stored)
        metadata = stored
    save_file(
        {key.encode("utf-8", "replace").decode(): value.contiguous() for key, value in state.items()},
        path,
        metadata=metadata,
    )
    if what == "header":
        content = bytearray(path.read_bytes())
        content[:8] = rng.choice((0, 1, 2**20, 2**40, 2**63)).to_bytes(8, "little")
        path.write_bytes(bytes(content))
    return f"{path.name}: {what} {name if what in ('drop', 'shape', 'nan', 'dtype', 'name', 'huge') else ''}"


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _odd_metadata(rng: random.Random, stored: dict[str, str]) -> dict[str, str]:
    """Of an export: the config in it is JSON in a string."""
    if not stored or rng.random() < 0.2:
        return {
            rng.choice(("config", "x")): rng.choice(
                ("", "null", "[]", "{}", "x", hostile.nested(100_000), "NaN", "9" * 5000)
            )
        }
    key = rng.choice(sorted(stored))
    try:
        value, _ = hostile.retouched(rng, json.loads(stored[key]))
        stored[key] = hostile.json_text(value)
    except ValueError:
        stored[key] = rng.choice(("", "null", "[]", "{}", "x", hostile.nested(100_000), "-1", "1e400"))
    return stored


def _checkpoint(rng: random.Random, path: Path) -> str:
    """A whole checkpoint with other things in it than ours."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    what = rng.choice(("drop", "null", "loops", "state", "empty", "list", "class", "epoch", "callbacks", "word"))
    key = rng.choice(sorted(state))
    if what == "drop":
        del state[key]
    elif what == "null":
        state[key] = None
    elif what == "word":
        state[key] = "x"
    elif what == "loops":
        state["loops"] = {}
    elif what == "state":
        state["state_dict"] = {name: torch.zeros(2) for name in state["state_dict"]}
    elif what == "empty":
        state = {}
    elif what == "list":
        state = [1, 2]
    elif what == "epoch":
        state["epoch"] = rng.choice((-1, 10**9, "x", float("nan")))
    elif what == "callbacks":
        state["callbacks"] = {"x": {"y": 1}}
    if what == "class":
        torch.save({"state_dict": _Payload(hostile.box_of(path) / "canary" / "checkpoint")}, path)
    else:
        torch.save(state, path)
    return f"{path.name}: {what} {key if what in ('drop', 'null', 'word') else ''}"


class _Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def _swap(rng: random.Random, path: Path, box: Box) -> str:
    """The same file of another run, or another file of the same."""
    name = path.relative_to(next(run for run in path.parents if run.parent == box.runs))
    others = [other / name for other in run_folders(box) if (other / name) != path and (other / name).is_file()]
    others += [other for other in path.parent.iterdir() if other.is_file() and other != path]
    if not others:
        return hostile.accident(rng, path)
    other = rng.choice(others)
    shutil.copyfile(other, path)
    return f"{path.name}: that of {other.relative_to(box.runs)}"


def _owner(rng: random.Random, run: Path) -> str:
    """Somebody who trains the run, or seems to."""
    folder = run / "owner"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / "owner.json"
    said = {"host": rng.choice(("elsewhere", os.uname().nodename)), "pid": rng.choice((1, 2**22 - 1, 0, -1, 2**40, "x", None)), "token": "x", "started": rng.choice((0.0, 1e18, "x")),
            "boot": "x", "started_at": rng.choice(("2999-01-01T00:00:00+00:00", "x", None))}  # fmt: skip
    file.write_text(json.dumps(said))
    ahead = rng.choice((0, 86400 * 365, -86400 * 365, 3600))
    when = file.stat().st_mtime + ahead
    for path in (file, folder):
        os.utime(path, (when, when))
    tampered = ""
    if rng.random() < 0.5:
        tampered = ", " + (_json(rng, file) if rng.random() < 0.5 else hostile.accident(rng, file))
    return f"owner: on {said['host']}, pid {said['pid']}, {ahead} s ahead{tampered}"


def _whole(rng: random.Random, run: Path, box: Box) -> str:
    """The folder itself."""
    what = rng.choice(
        (
            "link out",
            "loop",
            "file",
            "fifo",
            "empty",
            "renamed",
            "copied",
            "nowhere",
            "other's name",
            "to root",
            "dev",
            "kept",
            "nested",
        )
    )
    aside = box / "outside" / run.name
    if what in ("link out", "loop", "file", "fifo", "nowhere", "to root", "dev"):
        run.rename(aside)
    if what == "link out":
        run.symlink_to(aside)
    elif what == "loop":
        run.symlink_to(run.name)
    elif what == "file":
        run.write_text("x")
    elif what == "fifo":
        os.mkfifo(run)
    elif what == "nowhere":
        run.symlink_to("nowhere")
    elif what == "to root":
        run.symlink_to("/")
    elif what == "dev":
        run.symlink_to("/dev")
    elif what == "empty":
        shutil.rmtree(run)
        run.mkdir()
    elif what == "renamed":
        run.rename(run.with_name(_file_name(rng)))
    elif what == "copied":
        shutil.copytree(run, run.with_name(_file_name(rng)), symlinks=True)
    elif what == "kept":
        shutil.copytree(
            run, run.with_name(f"{run.name}.kept-{rng.choice(('x', '20260101T000000000000', ''))}"), symlinks=True
        )
    elif what == "nested":
        shutil.copytree(run, run / "checkpoints" / "x", symlinks=True)
    else:
        other = rng.choice([path for path in run_folders(box) if path != run])
        shutil.rmtree(other)
        shutil.copytree(run, other, symlinks=True)
    return f"the folder: {what}"


def _file_name(rng: random.Random) -> str:
    word = hostile.text(rng).replace("/", "_").replace("\x00", "")[:200]
    while len(word.encode("utf-8", "surrogateescape")) > 250:
        word = word[:-20]
    return word if word not in ("", ".", "..") else "zz"


def _room(rng: random.Random, box: Box) -> str:
    """The folder of all runs, or what lies among them and is none."""
    what = rng.choice(("link out", "file", "loop", "fifo", "many", "odd names", "deep"))
    runs, aside = box.runs, box / "outside" / "runs"
    if what in ("link out", "file", "loop", "fifo"):
        runs.rename(aside)
    if what == "link out":
        runs.symlink_to(aside)
    elif what == "file":
        runs.write_text("x")
    elif what == "loop":
        runs.symlink_to("runs")
    elif what == "fifo":
        os.mkfifo(runs)
    elif what == "many":
        for number in range(400):
            (runs / f"{number:010x}").mkdir()
    elif what == "odd names":
        for word in hostile.TEXTS:
            if word.strip("./") and "/" not in word and len(word) < 250:
                (runs / word).mkdir(exist_ok=True)
    else:
        place = runs / "0000000000"
        for _ in range(60):
            place = place / ("x" * 50)
        place.mkdir(parents=True)
    return f"runs: {what}"


def tamper(rng: random.Random, run: Path, box: Box) -> str:
    """One change to a run's folder; what it is."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    if not files or rng.random() < 0.08:
        return _whole(rng, run, box)
    if rng.random() < 0.05:
        return _owner(rng, run)
    return tamper_file(rng, rng.choice(files), box)  # each kind of file as often as another


def tamper_file(rng: random.Random, path: Path, box: Box) -> str:
    """One change to a file of a run; what it is."""
    draw = rng.random()
    own: Callable[[random.Random, Path], str] | None = None
    if path.suffix == ".json":
        own = _json if draw < 0.75 else _labels
    elif path.suffix == ".csv":
        own = _metrics
    elif path.suffix == ".safetensors":
        own = _weights
    elif path.suffix == ".ckpt":
        own = _checkpoint
    draw = rng.random()
    if own and draw < 0.5:
        return _of_kind(rng, path, own)
    if draw < 0.58 and box.runs in path.parents:
        return _swap(rng, path, box)
    return hostile.accident(rng, path)


def _of_kind(rng: random.Random, path: Path, own: Callable[[random.Random, Path], str] | None) -> str:
    """Tampers with a file as what it is; or with its bytes alone, also where an earlier change has left nothing of it."""
    if own is not None:
        try:
            return own(rng, path)
        except Exception as error:
            return f"{hostile.accident(rng, path)} (before that: {type(error).__name__})"
    return hostile.accident(rng, path)


def case(rng: random.Random, box: Box) -> tuple[str, Call]:
    """Tampers with one or two runs; what was done, and a command that reads them."""
    known = run_folders(box)
    run = rng.choice(known)
    others = [path.name for path in known if path != run]
    command = rng.choices(list(COMMANDS), list(COMMANDS.values()))[0]
    if command == "load_exported":
        run = next(path for path in known if (path / "export").is_dir())
    if (
        command in ("eval", "fold", "export", "load", "verify", "teacher", "init_from", "pack", "predict")
        and rng.random() < 0.7
    ):
        run = rng.choice([path for path in known if (path / "weights.safetensors").exists()])
    overrides = overrides_of(run)
    exported = next(iter(sorted((run / "export").glob("*.safetensors"))), None)
    weighty = {path.name for path in known if (path / "weights.safetensors").exists()}
    room = rng.random() < 0.04 and command in (
        "runs",
        "runs filtered",
        "runs clean",
        "report",
        "plan",
        "train that",
        "train other",
        "diff",
        "load",
        "eval",
    )
    said = [_room(rng, box) if room else tamper(rng, run, box)]
    if (
        command == "load_exported"
        and exported is not None
        and rng.random() < 0.8
        and os.path.lexists(exported)
        and exported.is_file()
    ):
        said.append(_of_kind(rng, exported, _weights if rng.random() < 0.7 else None))
    if rng.random() < 0.1 and run.is_dir() and not run.is_symlink():
        said.append(tamper(rng, run, box))
    if room:
        return said[0], Call(_reading(rng, command, run.name, others), ("out*",), (), rng.random() < COSTLY)
    name = run.name if rng.random() < 0.75 else rng.choice(others)
    keeps = tuple(f"out/runs/{other}/*" for other in others)
    that = (
        f"out/runs/{run.name}*",
        f"out/runs/{run.name}/*",
        f"out/runs/{name}",
        f"out/runs/{name}/*",
        "out/hydra*",
        "out/runs",
    )
    trains = rng.random() < COSTLY
    filters = rng.choice(
        (
            ["neuron=lif"],
            ["state=done"],
            ["state=failed"],
            ["state=damaged"],
            ["dataset=digits_200"],
            ["seed=0,1"],
            ["seed=[0,1]"],
            ["optim.lr=1000"],
            [],
            ["x"],
        )
    )
    whole = (0,) if name != run.name and name in weighty and not _is_other(said) else ANY
    match command:
        case "runs":
            call = Call(("runs", *rng.choice(([], ["list"]))), must=(0,))
        case "runs filtered":
            call = Call(("runs", *filters))
        case "runs clean":
            words = rng.choice(
                (
                    ["state=failed"],
                    ["state=damaged"],
                    ["state=interrupted"],
                    ["neuron=srm"],
                    [f"id={run.name}"],
                    ["state=diverged"],
                )
            )
            call = Call(("runs", "clean", *words, "--yes"), ("out/runs*",), ())
        case "report":
            words = rng.choice(
                (["dataset=digits_200"], ["neuron=lif"], ["network.width=4"], ["seed=0"], ["neuron=lif,s2nn"])
            )
            layouts = [
                "--format",
                rng.choice(("html,md,tex,csv", "html,md,tex,csv", "html", "md", "csv", "tex", "png")),
            ]
            more = rng.choice(
                (
                    [],
                    [],
                    ["--by", "neuron,norm"],
                    ["--by", "seed"],
                    ["--versus", "neuron=lif"],
                    ["--metric", "val/acc"],
                    ["--by", "optim.lr"],
                )
            )
            # each of these has lines enough without the run; with --by and the like a line may be shared
            call = Call(
                ("report", *words, *layouts, *more), ("out/reports*",), must=ANY if more or _is_other(said) else (0,)
            )
        case "plan":  # refuses a run that is damaged, as train does, among others that are not
            sweep = ("-m", *TINY, "seed=0,1,7", "neuron=lif,s2nn")
            call = Call(("plan", *rng.choice((tiny(*overrides), sweep))), must=(0, 2))
        case "train that":
            call = Call(("train", *tiny(*overrides), *rng.choice(([], [], [], ["--rerun"]))), ("out/*",), keeps, trains)
        case "train other":
            call = Call(("train", *TINY, "seed=7"), ("out/*",), (*keeps, f"out/runs/{run.name}/*"), trains, (0,))
        case "train -m":
            call = Call(("train", "-m", *TINY, "seed=0,1,7", *rng.choice(([], ["--rerun"]))), ("out/*",), (), False)
        case "diff":
            call = Call(("diff", name, rng.choice(others)))
        case "eval":
            call = Call(("eval", name, *rng.choice(([], [], ["dataset=digits"]))), must=whole)
        case "verify":
            call = Call(("verify", name), (), (), True)
        case "fold":
            call = Call(("fold", name, *rng.choice(([], [], ["--int8"]))), that)
        case "export":
            call = Call(
                (
                    "export",
                    name,
                    "--format",
                    rng.choice(("safetensors", "safetensors", "nir", "onnx")),
                    *rng.choice(([], ["--folded"])),
                ),
                that,
            )
        case "load":
            call = Call(("python", "snn_exp.load", rng.choice((name, str(box.runs / name)))), must=whole)
        case "load_exported":
            call = Call(("python", "load_exported", str(exported)))
        case "pack":
            call = Call(("pack", name), ("out/packed/*",), must=whole)
        case "predict":
            (box / "cwd" / "x.npz").write_bytes(SAMPLES)
            call = Call(("predict", name, "x.npz"), must=whole)
        case "teacher" | "init_from":
            taught = ("neuron=relu",) if command == "teacher" else ("optim.lr=0.02",)
            call = Call(
                (rng.choice(("train", "plan", "show")), *TINY, *taught, f"{command}={name}"),
                ("out/*",),
                tuple(f"out/runs/{path.name}/*" for path in known),
                trains,
            )
        case "interrupted":
            line: tuple[str, ...] = rng.choice(
                (
                    ("train", *tiny("seed=8", "trainer.max_epochs=40")),
                    ("train", "-m", *tiny("seed=8,9", "trainer.max_epochs=20")),
                    ("train", *tiny(*BEGUN)),
                )
            )
            sent = [(rng.choice((2, 2, 2, 15, 1)), rng.uniform(0.0, 4.0))]
            if rng.random() < 0.3:
                sent.append((2, sent[0][1] + rng.uniform(0.0, 1.0)))
            call = Call(
                line,
                ("out/*",),
                tuple(f"out/runs/{other}/*" for other in others if (box.runs / other / "result.json").exists()),
                True,
                signals=tuple(sent),
            )
        case _:
            call = Call(("dashboard", "dataset=digits_200"), ("out/dashboards*",))
    return "; ".join(said), call


def _reading(rng: random.Random, command: str, run: str, others: list[str]) -> tuple[str, ...]:
    """A command that looks at the folder of all runs."""
    return {
        "runs": ("runs",), "runs filtered": ("runs", "neuron=lif"), "runs clean": ("runs", "clean", rng.choice(("state=damaged", "state=failed", "neuron=lif")), "--yes"),
        "report": ("report", "dataset=digits_200"), "plan": ("plan", *TINY), "train that": ("train", *TINY), "train other": ("train", *TINY, "seed=7"), "diff": ("diff", run, rng.choice(others)),
        "load": ("python", "snn_exp.load", run), "eval": ("eval", run),
    }[command]  # fmt: skip


def _is_other(said: list[str]) -> bool:
    """Whether a run may now be a second of what another is."""
    return any(word in " ".join(said) for word in ("that of", "the folder", "config"))


def overrides_of(run: Path) -> list[str]:
    """What trains a run of the base again."""
    try:
        config = json.loads((run / "manifest.json").read_text())["config"]
    except (OSError, ValueError, KeyError):
        return ["seed=0"]
    if config["seed"] == 3:
        return list(BEGUN)
    if config["seed"] == 4:
        return list(BROKEN)
    if config["optim"]["lr"] == 1000:
        return list(DIVERGED)
    method = {"lif": LIF, "s2nn": S2NN, "srm": SRM}[config["neuron"]["name"]]
    return [
        *method,
        f"seed={config['seed']}",
        *([f"optim.lr={config['optim']['lr']}"] if config["optim"]["lr"] != 0.005 else []),
    ]
