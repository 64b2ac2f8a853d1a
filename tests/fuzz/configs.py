"""Config folders that somebody sent: experiments, methods, options, and Hydra's own tree."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.fuzz import hostile, lines
from tests.fuzz.box import Box, tiny
from tests.fuzz.calls import Call

# where a file may want to stand, and how it is chosen
PLACES = (
    ("experiment/x.yaml", "experiment=x"), ("experiment/x.yaml", "experiment=x"), ("experiment/x.yaml", "experiment=x"), ("method/x.yaml", "method=x"), ("neuron/x.yaml", "neuron=x"),
    ("norm/x.yaml", "norm=x"), ("trainer/x.yaml", "trainer=x"), ("energy/x.yaml", "energy=x"), ("logger/x.yaml", "logger=x"), ("depth/x.yaml", "depth=x"), ("dataset/x.yaml", "dataset=x"),
    ("train.yaml", ""), ("neuron/lif.yaml", "neuron=lif"), ("hydra/launcher/x.yaml", "hydra/launcher=x"), ("hydra/launcher/basic.yaml", ""), ("hydra/launcher/joblib.yaml", "hydra/launcher=joblib"),
    ("hydra/sweeper/basic.yaml", ""), ("hydra/callbacks/x.yaml", "+hydra/callbacks=x"), ("hydra/job_logging/none.yaml", ""), ("hydra/hydra_logging/none.yaml", ""),
    ("hydra/config.yaml", ""), ("schema/neuron/lif.yaml", "neuron=lif"), ("x.yaml", "+x=1"), ("experiment/a/x.yaml", "experiment=a/x"), ("hydra/env/x.yaml", "+hydra/env=x"),
)  # fmt: skip

TARGETS = (
    "{_target_: os.system, command: 'touch CANARY'}", "{_target_: subprocess.run, args: 'touch CANARY', shell: true}", "{_target_: builtins.exec, _args_: ['import os; os.system(\"touch CANARY\")']}",
    "{_target_: pathlib.Path.write_text, self: OUTSIDE, data: x}", "{_target_: logging.FileHandler, filename: OUTSIDE}", "{_target_: shutil.copytree, src: /etc/ssl, dst: OUTSIDE}",
    "{_target_: torch.hub.load, repo_or_dir: HUB, model: m, source: local, trust_repo: true}", "{_target_: runpy.run_path, path_name: HUB/hubconf.py}", "{_target_: hydra.utils.call, config: {_target_: os.system, command: 'touch CANARY'}}",
    "{_target_: builtins.open, file: OUTSIDE, mode: w}", "{_target_: os.makedirs, name: OUTSIDE}", "{_target_: x.y}", "{_target_: ''}", "{_target_: 5}", "{_target_: hydra.experimental.callback.Callback}",
    "{_target_: hydra.experimental.callbacks.PickleJobInfoCallback}", "{_target_: hydra.experimental.callbacks.LogJobReturnCallback}",
)  # fmt: skip

TREES = (
    "hydra:\n  callbacks:\n    x: {TARGET}\n", "hydra:\n  launcher: {TARGET}\n", "hydra:\n  sweeper: {TARGET}\n", "hydra:\n  launcher:\n    _target_: os.system\n", "hydra:\n  callbacks: {TARGET}\n",
    "hydra:\n  job_logging: {version: 1, handlers: {x: {class: logging.FileHandler, filename: OUTSIDE}}, root: {handlers: [x]}}\n",
    "hydra:\n  hydra_logging: {version: 1, handlers: {x: {'()': os.system, command: 'touch CANARY'}}, root: {handlers: [x]}}\n", "hydra:\n  job_logging: {version: 1, handlers: {x: {TARGET}}}\n",
    "hydra:\n  run: {dir: OUTSIDE}\n", "hydra:\n  sweep: {dir: OUTSIDE}\n", "hydra:\n  sweep: {subdir: ../../../outside/x}\n", "hydra:\n  output_subdir: ../../../outside/x\n", "hydra:\n  run: {dir: ../outside/x}\n",
    "hydra:\n  job: {env_set: {SNN_EXP_OUTPUT: OUTSIDE, PATH: HUB}}\n", "hydra:\n  job: {env_set: {LD_PRELOAD: HUB/x.so}}\n", "hydra:\n  job: {chdir: true}\n", "hydra:\n  job: {name: ../../outside/x}\n", "hydra:\n  searchpath: [file://HUB]\n",
    "hydra:\n  searchpath: [pkg://hubconf]\n", "hydra:\n  mode: MULTIRUN\n  sweeper: {params: {seed: '0,1', '../x': 1}}\n", "hydra:\n  mode: MULTIRUN\n  sweeper: {params: {seed: 'range(1000000000)'}}\n",
    "hydra:\n  mode: MULTIRUN\n  sweeper: {params: {TARGET}}\n", "hydra:\n  sweeper: {params: 5}\n", "hydra:\n  sweeper: {params: {seed: null, a: [1], b: {c: d}}}\n", "hydra: 5\n", "hydra: null\n", "hydra: []\n", "hydra:\n  mode: x\n",
    "defaults:\n  - override /hydra/launcher: x\n", "defaults:\n  - override /hydra/job_logging: default\n", "defaults:\n  - override /hydra/callbacks: x\n", "defaults:\n  - override /hydra/sweeper: optuna\n",
    "defaults:\n  - override /hydra/launcher: submitit_local\n", "hydra:\n  launcher: {n_jobs: 1000000000}\n", "hydra:\n  launcher: {x: 1}\n", "_target_: os.system\n", "neuron: {TARGET}\n", "neuron:\n  _target_: os.system\n", "x: {TARGET}\n",
    "trainer: {TARGET}\n", "logger: {project: ../../../outside/x, name: wandb}\n", "logger: {group: '../x', name: none}\n", "energy: {name: '[/]'}\n", "energy: {name: \"\\e[31m\", mac_pj: 1}\n", "energy: {name: '=cmd'}\n",
    "hydra:\n  verbose: true\n", "hydra:\n  help: {template: 'touch CANARY'}\n", "hydra:\n  runtime: {output_dir: OUTSIDE, config_sources: 5}\n", "hydra:\n  overrides: {task: [x]}\n", "hydra:\n  job: {config: {override_dirname: {exclude_keys: 5}}}\n",
)  # fmt: skip

BROKEN = (
    "", "null", "5", "[]", "- a", "x", "{", "a: [", "\t a", "a: 1\na: 2", "a: b: c", "'", "---\na: 1\n---\nb: 2", "!!python/object/apply:os.system ['touch CANARY']", "!!python/object/new:os.system ['touch CANARY']",
    "!!python/name:os.system", "x: !!python/module:os", "&a [*a]", "a: &a {b: *a}", "*x", "%YAML 9.9\n---\na: 1", "\ufeffseed: 1", "seed: \x00", "<<: 5", "<<: {seed: 1}", "? [a]\n: b", "1: 2", "null: 1", "true: 1", "1.5: x",
    "defaults: 5", "defaults: x", "defaults: []", "defaults: [5]", "defaults: [null]", "defaults: [x]", "defaults: [x, x]", "defaults: [_self_, _self_]", "defaults: [{x: y}]", "defaults: [{neuron: [lif, plif]}]", "defaults: [{neuron: 5}]",
    "defaults: [{/neuron: lif}]", "defaults: [{override /neuron: lif}]", "defaults: [{override /neuron: zz}]", "defaults: [{override neuron: lif}]", "defaults: [{optional x: y}]", "defaults: [{/experiment: x}]", "defaults: [{override /experiment: x}]",
    "defaults: [/../../../etc/passwd]", "defaults: [../../outside/kept]", "defaults: [/experiment/x]", "defaults: [x@y]", "defaults: [{neuron@_global_: lif}]", "defaults: [{'neuron@': lif}]", "defaults: [{a b c: d}]", "defaults: [/train]",
    "defaults: ['${seed}']", "defaults: [{neuron: '${neuron}'}]", "defaults: [{override /neuron: lif}, {override /neuron: plif}]", "defaults: [{neuron: lif, norm: bn}]", "defaults: [[x]]", "seed: ${seed}", "seed: ${", "seed: ${x}", "seed: ${oc.env:HOME}",
    "seed: ${oc.env:NOTHING}", "seed: ${hydra:runtime.cwd}", "seed: ${now:%Y}", "seed: ???", "seed: {a: 1}", "seed: [1]", "seed: 5 5", "seed: 2026-01-01", "seed: 1e400", "seed: .nan", "seed: 0o17", "seed: 1_000", "seed: !!str 1", "seed: !!binary aGVsbG8=",
    "seed: !!set {a}", "seed: 12:30:45", "neuron: null", "neuron: 5", "neuron: []", "neuron: {tau: 3}", "neuron: {tau: [3]}", "neuron: {tau: x}", "neuron: {tau: {a: 1}}", "neuron: {tua: 3}", "neuron: {name: zz}", "neuron: {name: 5}", "neuron: {name: null}",
    "neuron: {null: 1}", "neuron: {5: 1}", "neuron: {'': 1}", "neuron: {a.b: 1}", "neuron: {'a=b': 1}", "zz: 1", "zz: {a: 1}", "zz: null", "teacher: '-m'", "teacher: [a]", "teacher: 5", "teacher: 'a='", "experiment: x", "method: x", "depth: 8", "depth: {num_layers: 21}",
    "network: {width: 1000000000}", "encoding: {num_steps: 1000000000}", "trainer: {num_threads: 20000}", "optim: {lr: -1}", "optim: {lr: '0.1'}", "\u202eseed: 1", "seed: '\\udcff'", "ключ: 1", "'../../x': 1", "a/b: 1", "/neuron: lif", "'[/]': 1",
)  # fmt: skip

PACKAGES = ("# @package _global_\n", "# @package _global_\n", "# @package _global_\n", "", "# @package _group_\n", "# @package hydra\n", "# @package ../../x\n", "# @package\n", "# @package a.b.c\n", "# @package _here_\n", "# @package _global_ x\n", "# @package hydra.callbacks\n", "# @package 5[\n")  # fmt: skip


def bomb(rng: random.Random) -> str:
    """A file of little text and much content, or of much text."""
    kind = rng.choice(
        (
            "laughs",
            "merge",
            "deep",
            "wide",
            "long",
            "aliases",
            "self",
            "quadratic",
            "anchors",
            "interpolation",
            "numbers",
        )
    )
    match kind:
        case "laughs":
            rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [
                f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, rng.choice((4, 7, 10, 30)))
            ]
            return "\n".join(rows)
        case "merge":
            rows = ["a0: &a0 {x: 1}"] + [
                f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}], k{n}: *a{n - 1}}}" for n in range(1, 9)
            ]
            return "\n".join(rows)
        case "deep":
            return "x: " + rng.choice(
                (
                    hostile.nested(100_000),
                    hostile.nested(5000),
                    hostile.nested(900),
                    "{a: " * 5000 + "1" + "}" * 5000,
                    "\n".join(" " * n + "a:" for n in range(1000)),
                )
            )
        case "wide":
            return "\n".join(f"k{n}: {n}" for n in range(rng.choice((1000, 100_000))))
        case "long":
            return "x: " + "y" * rng.choice((10**6, 3 * 10**7))
        case "aliases":
            return "a: &a 1\nb: [" + ",".join(["*a"] * 200_000) + "]"
        case "self":
            return "a: &a\n  b: *a\n"
        case "quadratic":
            return "a: &a '" + "x" * 50_000 + "'\nb: [" + ",".join(["*a"] * 5000) + "]"
        case "anchors":
            return "\n".join(
                f"k{n}: &k{n} {{p: {f'*k{n - 1}' if n else 1}, q: {f'*k{n - 1}' if n else 1}}}" for n in range(40)
            )
        case "interpolation":
            return "\n".join(["a0: x"] + [f"a{n}: '${{a{n - 1}}}${{a{n - 1}}}'" for n in range(1, 40)])
        case _:
            return "seed: " + "9" * 100_000


def chain(rng: random.Random, box: Box, package: str) -> str:
    """Files whose defaults lead to one another."""
    folder = box / "configs" / "experiment"
    folder.mkdir(parents=True, exist_ok=True)
    kind = rng.choice(("self", "two", "long", "wide", "root", "up", "double"))
    match kind:
        case "self":
            files = {"x": ["x"]}
        case "two":
            files = {"x": ["y"], "y": ["x"]}
        case "long":
            files = {"x": ["n0"]} | {f"n{n}": [f"n{n + 1}"] for n in range(300)} | {"n300": []}
        case "wide":
            files = {"x": ["y"] * 3000, "y": []}
        case "double":
            files = {"x": ["n0", "n0"]} | {f"n{n}": [f"n{n + 1}", f"n{n + 1}"] for n in range(22)} | {"n22": []}
        case "root":
            files = {"x": ["/train"]}
        case _:
            files = {"x": ["../experiment/x"]}
    if rng.random() < 0.15:
        kind += ", among 3,000 others"
        files = {f"m{n}": [] for n in range(3000)} | files
    for name, leads_to in files.items():
        (folder / f"{name}.yaml").write_text(f"{package}defaults: [{', '.join(leads_to)}]\n")
    return f"defaults that lead on: {kind}"


def case(rng: random.Random, box: Box) -> tuple[str, Call]:
    """A hostile config folder; what is in it, and a command that is given it."""
    hub = box / "configs" / "hub"
    hub.mkdir()
    (hub / "hubconf.py").write_text(
        f"open({str(box / 'canary' / 'hub')!r}, 'w')\n\n\ndef m(*a, **k):\n    open({str(box / 'canary' / 'hub')!r}, 'w')\n"
    )
    place, choice = rng.choice(PLACES)
    package = rng.choice(PACKAGES) if not place.startswith("train") else ""
    file = box / "configs" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    draw = rng.random()
    if draw < 0.4:
        tree = rng.choice(TREES).replace("{TARGET}", rng.choice(TARGETS))
        content, said = package + tree, f"{place}: {package.strip()} {tree!r}"
    elif draw < 0.72:
        broken = rng.choice(BROKEN)
        content, said = package + broken + "\n", f"{place}: {package.strip()} {broken!r}"
    elif draw < 0.82:
        content = package + bomb(rng)
        said = f"{place}: {package.strip()} {content[len(package) :][:50]!r} ... of {len(content)} characters"
    elif draw < 0.88:
        said, choice = chain(rng, box, package), "experiment=x"
        content = None
    else:
        content = (
            f"{package}defaults: [{{override /neuron: s2nn}}]\nseed: 1\n"
            if package
            else "defaults: [/schema/neuron/lif@_here_, _self_]\ntau: 3\n"
        )
        said = ""
    if content is not None:
        content = (
            content.replace("CANARY", str(box / "canary" / "yaml"))
            .replace("OUTSIDE", str(box / "outside" / "x"))
            .replace("HUB", str(hub))
        )
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        if not said:
            said = f"{place}: {hostile.accident(rng, file)}"
    folder = str(box / "configs")
    if rng.random() < 0.04:
        folder, what = _odd_folder(rng, box)
        said += f"; the folder: {what}"
    words = [choice] if choice else []
    if rng.random() < 0.2:
        words.append(lines.override(rng))
    command = rng.choice(
        (
            ["plan"],
            ["plan"],
            ["plan", "-m"],
            ["train"],
            ["train"],
            ["train", "-m"],
            ["train", "-m"],
            ["train", "-m"],
            ["show"],
            ["search"],
            ["train", "--cfg", "job"],
            ["train", "--cfg", "hydra"],
            ["train", "--info"],
            ["train", "--hydra-help"],
        )
    )
    if "joblib" in choice and command == ["train", "-m"]:
        command = ["plan", "-m"]  # in processes of their own nothing stands in for training
    if "-m" in command and "experiment" not in choice:
        words.append("seed=0,1")
    words = list(tiny(*words)) if command[0] != "search" else ["seed=0,1", *words]
    argv = (
        *command,
        *rng.choice((("--config-dir", folder), ("-cd", folder), ("--config-dir", folder, "--config-dir", folder))),
        *words,
    )
    argv = tuple(word.replace("\x00", "") for word in argv)
    return said, Call(argv, ("out/*",))


def _odd_folder(rng: random.Random, box: Box) -> tuple[str, str]:
    path = box / "configs-odd"
    what = rng.choice(("loop", "fifo", "file", "nowhere", "dev", "proc", "name"))
    if what == "loop":
        path.symlink_to(path.name)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "file":
        path.write_text("x")
    elif what == "name":
        path = Path(
            str(path) + rng.choice((" a", "'", "=", ",", "${x}", "\n", "\x1b[31m", "[/]", "ü", "\udcff", "#", "%"))
        )
        (box / "configs").rename(path)
        (box / "configs").mkdir()
    return {"nowhere": str(path), "dev": "/dev", "proc": "/proc/self"}.get(what, str(path)), what
