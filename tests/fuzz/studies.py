"""Studies that somebody sent: study.yaml, committed rows, README."""

from __future__ import annotations

import glob
import json
import random
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz import hostile
from tests.fuzz.box import Box
from tests.fuzz.calls import Call
from tests.fuzz.configs import bomb

COMMANDS = (
    ("study", "tiny", "--plan"), ("study", "tiny", "--plan"), ("study", "tiny", "--plan"), ("report", "tiny"), ("report", "tiny", "--format", "html,md,tex,csv"),
    ("report", "tiny", "--format", "html,md,tex,csv"), ("report", "tiny", "--by", "neuron", "--format", "md"), ("study", "tiny"), ("study", "tiny"), ("study",), ("plan", "tiny"),
    ("study", "tiny", "--only", "d8/lif", "--plan"), ("report", "tiny", "--versus", "lif", "--format", "csv"), ("dashboard", "tiny"), ("study", "tiny", "--verify", "1"),
)  # fmt: skip

ODD: dict[str, tuple[Any, ...]] = {
    "seeds": (5, "x", [], [0, 0], [-1], [2**32], [1.5], ["a"], [None], {"a": 1}, list(range(100_000)), [True]),
    "base": (5, "x", ["neuron=["], ["hydra/launcher=joblib"], ["hydra.callbacks.x._target_=os.system"], ["seed=0,1"], [5], ["+x=1"], ["--rerun"], ["-m"], ["trainer.max_epochs=1000000000"]),
    "claims": (5, "x", [5], [{}], [{"says": 5}], [{"says": "x", "test": "nope", "of": "lif"}], [{"says": "x", "test": "higher", "of": "lif", "than": "x"}],
               [{"says": hostile.LATEX, "test": "at_least", "value": "1/0", "of": "lif"}], [{"says": "x", "test": "at_least", "value": "nan", "of": "lif"}],
               [{"says": "x", "test": "at_least", "value": 0.1, "of": ["lif"], "metric": "../x"}], [{"says": "x", "test": "higher", "of": "lif", "than": "lif"}]),
    "methods": (5, "x", {}, [], {"a": 5}, {"a": None}, {"../../../outside/x": ["neuron=lif"]}, {"a/b": ["neuron=lif"]}, {5: ["neuron=lif"]}, {None: []}, {"a": ["x=1"]}, {"[red]": ["neuron=lif"]}),
    "settings": (5, "x", [], {}, {"a/../../../outside/x": {"overrides": []}}, {"a": 5}, {"a": {"overrides": 5}}, {"a": {"grid": 5}}, {"a": {"grid": {"optim.lr": 5}}}, {"a": {"tuned_in": "b"}},
                 {"a": {"tuned_in": "b"}, "b": {"tuned_in": "a"}}, {"a": {"grid": {"optim.lr": [0.1] * 1000, "seed": list(range(1000))}}}, {hostile.ESCAPE: {}}, {hostile.LATEX: None}, {True: None}),
    "tuning": (5, "x", [], {"seeds": 5}, {"seeds": [0]}, {"grid": {"x": [1]}}, {"seeds": ["x"], "grid": {"optim.lr": ["x", None]}}, {"grid": {"optim.lr": [["a"]]}}, {"seeds": list(range(10**5)), "grid": {"optim.lr": [1]}}),
    "status": ("nope", 5, None, [], hostile.SCRIPT),
    "budget_core_hours": (float("nan"), float("inf"), -1, 0, "x", None, [], 10**400, "1/2", True),
    "question": (5, None, [], {}, "", "x" * 100_000, hostile.SCRIPT, hostile.LATEX, hostile.ESCAPE, hostile.FORMULA, "[/]", "$\\frac{$"),
    "metric": (5, None, "", "../../x", "test/nothing", hostile.SCRIPT, [], "status"),
    "reference": (5, None, "x", []),
    "more_seeds": (5, {"x": [1]}, {"*/*": 5}, {"*/*": [100]}, {"[": [1]}, {5: 5}, {"*/*": ["x"]}),
    "exclude": (5, {"x": "y"}, {"*/*": "all"}, {"d8/lif": hostile.SCRIPT}, {"[": 5}, []),
    "note": (5, None, hostile.SCRIPT, []),
    hostile.SCRIPT: (1,),
    "__class__": ("x",),
}  # fmt: skip

TEXTS = (
    "", "null", "5", "[]", "x", "question", "{", "a: [", "\t", "---\na: 1\n---\nb: 2\n", "!!python/object/apply:os.system ['touch CANARY']", "!!python/name:os.system", "? [a]\n: b", "&a [*a]",
    "a: &a {b: *a}", "*x", "%YAML 9.9\n---\na: 1", "a: 1\na: 2", "\ufeffquestion: x", "question: \x00", "<<: 5", "<<: *a", "!!binary x", "!!timestamp x", "2026-13-45: x", "0o8: 1", "? ? ? x",
    hostile.nested(100_000), hostile.nested(20_000, "{}"), "- " * 50_000 + "x", "a: '" + "x" * 10**6, "!" * 5000, "&" + "a" * 5000, "question: " + "x" * (5 * 2**20), "# " + "x" * (20 * 2**20),
)  # fmt: skip


def _study_yaml(rng: random.Random, path: Path) -> str:
    draw = rng.random()
    if draw < 0.5:
        content = yaml.safe_load(path.read_text())
        said = []
        for key in rng.sample(sorted(ODD), rng.choice((1, 1, 1, 2))):
            if rng.random() < 0.1:
                content.pop(key, None)
                said.append(f"without {key}")
            else:
                content[key] = rng.choice(ODD[key])
                said.append(f"{key} {str(content[key])[:60]!r}")
    elif draw < 0.65:
        content, what = hostile.retouched(rng, yaml.safe_load(path.read_text()))
        said = [what]
    else:
        text = bomb(rng) if draw < 0.75 else rng.choice(TEXTS)
        text = text.replace("CANARY", str(hostile.box_of(path) / "canary" / "yaml"))
        path.write_text(text, errors="surrogateescape")
        return f"study.yaml: {text[:60]!r}"
    try:
        path.write_text(yaml.safe_dump(content, allow_unicode=rng.random() < 0.5), errors="surrogateescape")
    except (yaml.YAMLError, ValueError):
        path.write_text(hostile.json_text(content))
    return f"study.yaml: {'; '.join(said)}"


def _rows(rng: random.Random, path: Path) -> str:
    lines = path.read_text().splitlines()
    at = rng.randrange(len(lines))
    what = rng.choice(
        (
            "retouched",
            "retouched",
            "retouched",
            "retouched",
            "text",
            "cut",
            "twice",
            "empty line",
            "other id",
            "merge",
            "huge",
            "many",
        )
    )
    if what == "retouched":
        value, said = hostile.retouched(rng, json.loads(lines[at]))
        lines[at] = hostile.json_text(value)
        what = said
    elif what == "text":
        lines[at] = rng.choice(
            (
                "null",
                "[]",
                "5",
                "{}",
                '"x"',
                hostile.nested(100_000),
                "{" * 100,
                "NaN",
                "<<<<<<< HEAD",
                '{"run_id":"x"}',
                "\udcff\udcfe",
                "\x00",
            )
        )
    elif what == "cut":
        lines[at] = lines[at][: rng.randrange(len(lines[at]))]
    elif what == "twice":
        lines += lines
    elif what == "empty line":
        lines.insert(at, "")
    elif what == "other id":
        lines[at] = lines[at].replace(
            json.loads(lines[at])["run_id"], rng.choice(("x", "../../outside/x", "0123456789", ""))
        )
    elif what == "merge":
        lines = ["<<<<<<< HEAD", *lines[:2], "=======", *lines[2:], ">>>>>>> theirs"]
    elif what == "huge":
        lines[at] = lines[at][:-1] + ',"x":"' + "x" * 10**6 + '"}'
    else:
        lines = lines * 300
    path.write_text("\n".join(lines) + rng.choice(("\n", "\n", "\n", "")), errors="surrogateescape")
    return f"results.jsonl, line {at + 1}: {what}"


def case(rng: random.Random, box: Box) -> tuple[str, Call]:
    """Tampers with a study; what was done, and a command that reads it."""
    folder = box / "studies" / "tiny"
    draw = rng.random()
    said = []
    if draw < 0.5:
        said.append(_study_yaml(rng, folder / "study.yaml"))
    elif draw < 0.8:
        said.append(_rows(rng, folder / "results.jsonl"))
    elif draw < 0.97:
        said.append(hostile.accident(rng, rng.choice(sorted(path for path in folder.iterdir() if path.is_file()))))
    else:
        folder.rename(box / "outside" / "tiny")
        folder.symlink_to(box / "outside" / "tiny")
        said.append("the folder: a link out")
    argv = rng.choice(COMMANDS)
    if rng.random() < 0.05 and folder.is_dir() and not folder.is_symlink():
        name = hostile.text(rng).replace("/", "_").replace("\x00", "").strip(".")[:80] or "zz"
        folder.rename(folder.with_name(name))
        said.append(f"the folder is called {name!r}")
        argv = rng.choice(
            (("study",), ("study", name, "--plan"), ("report", name, "--format", "html,md,tex,csv"), ("plan", "x"))
        )
        return "; ".join(said), Call(argv, ("out/*", f"studies/{glob.escape(name)}/*"))
    keeps = ["studies/tiny/study.yaml"]
    if "--verify" not in argv:  # which sets runs aside, and does them again
        keeps.append("out/runs/*/weights.safetensors")
    return "; ".join(said), Call(argv, ("out/*", "studies/tiny", "studies/tiny/*"), tuple(keeps))
