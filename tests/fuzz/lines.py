"""Command lines: right, wrong and hostile, in Hydra's grammar, over every group and key."""

from __future__ import annotations

import functools
import random
from typing import Any

from tests.fuzz import hostile
from tests.fuzz.base import run_folders
from tests.fuzz.box import TINY, Box
from tests.fuzz.calls import Call

COMMANDS = {
    "plan": 30, "plan -m": 16, "show": 6, "train": 10, "train -m": 8, "runs": 8, "report": 7, "options": 3, "diff": 2, "eval": 4, "predict": 2, "verify": 0.3,
    "fold": 2, "export": 2, "pack": 2, "unpack": 2, "study": 3, "evidence": 0.5, "search": 4, "dashboard": 1, "data": 2, "new": 2, "completion": 3, "doctor": 0.3, "other": 3, "flags": 5,
    "plan and show": 8, "plan and train": 3,
}  # fmt: skip

WORDS = (
    "", "=", "==", "+", "++", "~", "@", ":", "-", "--", "---", "-m", "-x", "--yes", "--help=1", "seed", "seed=", "=seed", "+=1", "~=", "~~seed", "+++seed=1",
    "seed==1", "seed= 1", " seed=1", "seed =1", "neuron", "neuron.", ".neuron=1", "neuron..tau=2", "neuron.tau.x=2", "neuron/tau=2", "neuron@x=lif",
    "neuron@_global_=lif", "neuron@neuron:surrogate=lif", "/neuron=lif", "//neuron=lif", "seed=[", "seed=(", "seed={", "seed='", 'seed="', "seed=\\", "seed=$",
    "seed=${", "seed=${}", "seed=${seed}", "seed=${oc.env:HOME}", "seed=${oc.env:NOTHING}", "seed=${oc.decode:'1'}", "seed=${oc.create:[1]}",
    "seed=${now:%Y}", "seed=${hydra:job.num}", "seed=${neuron.tau}", "neuron.tau=${TAU}", "neuron.tau=${neuron.tau}", "neuron.tau=${..........x}", "seed=${a:b,c}", "seed=${..seed}", "seed=${oc.dict.keys:neuron}", "seed=${eval:1+1}",
    "seed=range(0,1,0)", "seed=range(5,0)", "seed=range(0,3)", "seed=range(1000000000)", "seed=range(0,1e9,0.1)", "seed=range(a)", "seed=range()",
    "seed=interval(0,1)", "seed=interval(1,0)", "seed=choice()", "seed=choice(0,1)", "seed=shuffle(0,1)", "seed=sort(3,1,2)", "seed=sort(3,1,a)",
    "seed=glob(*)", "neuron=glob(*)", "neuron=glob(l*,exclude=lif)", "neuron=glob([)", "norm=glob(zz)", "seed=tag(a,0,1)", "seed=int(3.0)", "seed=float(3)",
    "seed=str([1])", "seed=bool(x)", "seed=json_str({a:1})", "seed=extend_list(1)", "seed=shuffle(range(0,3))", "seed=sort(range(0,3),reverse=true)",
    "seed=int(range(0,3.5))", "seed=range(start=0,stop=2)", "seed=range(0,2,step=nan)", "seed=0,1,", "seed=,0", "seed=,", "seed=0,,1", "seed=0,0", "seed=[0,1]",
    "seed=[0,1],[2]", "seed={a:1}", "seed={a:{b:[1,2]}}", "seed={1:2,null:3}", "seed=0x10", "seed=1_000", "seed=1e0", "seed=-0", "seed=+1", "seed=nan",
    "seed=inf", "seed=null", "seed=true", "seed=4294967295", "seed=4294967296", "seed=18446744073709551616", "seed=-9223372036854775809", "seed=1.5",
    "teacher=a=", "teacher='a=\"'", "teacher='neuron=lif'", "teacher='seed=range(3)'", "teacher='-m'", "teacher=[a]", "teacher='teacher=x'", "teacher=../x",
    "teacher='teacher=\"seed=1\"'", "teacher='+hydra.run.dir=/tmp'", "teacher='\\'", "teacher=null", "teacher=' '", "teacher='x=1 y=2'",
    "hydra=x", "hydra/help=1.5", "hydra/launcher=joblib", "hydra/launcher=x", "hydra/launcher=basic", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna",
    "hydra/sweeper=basic,basic", "hydra/callbacks=x", "hydra/job_logging=default", "hydra/hydra_logging=disabled", "hydra/output=default",
    "hydra/launcher=joblib,basic", "hydra.launcher.n_jobs=2", "hydra.launcher.n_jobs=x", "hydra.launcher.n_jobs=1e9", "hydra.launcher.n_jobs=-3",
    "hydra.launcher._target_=os.system", "+hydra.launcher.x=1", "hydra.launcher.n_jobs=0", "hydra.mode=MULTIRUN", "hydra.mode=x", "hydra.mode=null",
    "hydra.run.dir=../outside", "hydra.run.dir=/tmp/x", "hydra.run.dir=", "hydra.run.dir=null", "hydra.sweep.dir=../outside", "hydra.sweep.subdir=../../outside",
    "hydra.sweep.dir=${hydra.sweep.dir}", "hydra.sweep.subdir=/etc", "hydra.job.name=../x", "hydra.job.chdir=true", "hydra.job.env_set.PATH=/x",
    "+hydra.job.env_set.LD_PRELOAD=/x.so", "hydra.job.env_copy=[HOME]", "hydra.output_subdir=../../outside", "hydra.output_subdir=null", "hydra.verbose=true",
    "hydra.verbose=[x]", "hydra.searchpath=[../configs]", "hydra.searchpath=[file:///etc]", "hydra.searchpath=[pkg://os]", "hydra.searchpath=[x]",
    "hydra.searchpath=5", "+hydra.sweeper.params.seed=$", "+hydra.sweeper.params.seed='0,1'", "+hydra.sweeper.params.x=1", "hydra.sweeper.params=5",
    "+hydra.sweeper.params.seed=range(2)", "hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=1", "hydra.sweeper._target_=os.system",
    "+hydra.callbacks.x._target_=os.system", "+hydra.callbacks.x={_target_:os.system,command:ls}", "hydra.callbacks=null", "~hydra", "~hydra.launcher",
    "~hydra/launcher", "hydra.runtime.output_dir=/tmp", "hydra.overrides.task=[x]", "hydra.help.template=x", "hydra.job_logging.version=2", "hydra.x=1",
    "hydra.job.config.override_dirname.kv_sep=/", "hydra.job.id=x", "hydra.job.num=5", "+hydra.x._target_=os.system", "experiment=quick", "experiment=null",
    "experiment=../../etc/passwd", "experiment=/etc/passwd", "+experiment=quick", "experiment=[quick]", "experiment=[]", "experiment=x", "method=lif_bn",
    "method=[lif_bn,s2nn_bn]", "method=null", "method=x", "method@neuron=lif_bn", "_target_=os.system", "+_target_=os.system", "neuron._target_=os.system",
    "+neuron._target_=os.system", "+neuron={_target_:os.system}", "neuron={name:lif,tau:3}", "neuron=[lif]", "neuron=null", "+defaults=[x]", "defaults=[x]",
    "depth=8", "depth=21", "depth=d", "depth=8,20", "depth=[8]", "depth.num_layers=20", "depth.num_layers=1e9", "depth.num_layers=1000000001", "depth=-1",
    "depth=99999999999999999999", "depth=٣", "depth=d²", "depth=1e1", "network.width=1e9", "network.width=1000000000", "network.width=100000", "network.width=0",
    "encoding.num_steps=1000000000", "encoding.num_steps=1000", "encoding.num_steps=0", "dataset.max_shift=1000000", "dataset.max_shift=-1",
    "trainer.num_threads=20000", "trainer.num_threads=0", "trainer.devices=1000", "trainer.max_epochs=1000000000000", "optim.batch_size=1",
    "optim.batch_size=1000000000000", "dataset.split_seed=4294967296", "dataset.val_fraction=0.999999", "dataset.test_fraction=1e-9",
    "dataset.val_fraction=0.5 ", "dataset=digits_200", "dataset=cifar10", "dataset=mnist", "dataset=nmnist", "norm.num_groups=3", "norm=group", "network=mlp",
    "network=vgg", "neuron.v_reset=2", "neuron.v_threshold=0", "neuron.v_threshold=1e-45", "optim.lr=0", "optim.lr=1e400", "optim.lr=1e-400", "optim.lr=--1",
    "optim.lr=.5", "optim.lr=5.", "optim.lr=1e", "optim.lr='0.1'", 'optim.lr="0.1"', "optim.lr=0.1e-3", "optim.lr=1/3", "optim.lr=0,1", "optim.lr=1,5 ",
    "logger.project=../../x", "logger.group='[/]'", "energy.name='[/]'", "energy.name=\x1b[31m", "energy.name='$\\frac{$'", "energy.name=\"</script><script>alert(1)</script>\"",
    "--optim.lr=0.01", "--optim.lr", "--seed", "--neuron", "--seed=1", "-seed=1", "optim.lr:0.1", "optim.lr", "optim lr=0.1", "optim.lr=0.1 seed=1", "seed=1;seed=2", "seed=1 # x",
    "café=1", "neuron=lïf", "neuron.tau=\uff12", "neuron.tau=∞", "neuron=🙂", "seed=\udcff", "\udcff=1", "neuron=\u202elif", "seed=1\n", "seed=\x07", "seed=\t1", "a\x00b=1",
)  # fmt: skip


@functools.cache
def groups() -> dict[str, list[str]]:
    """Group -> names of its options, as the YAML files say."""
    from snn_exp.config.hydra_setup import config_dir

    folders = sorted(path for path in config_dir().iterdir() if path.is_dir() and not path.name.startswith("_"))
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


@functools.cache
def keys() -> dict[str, list[tuple[str, Any]]]:
    """Group -> (key, its parameter), of all its options."""
    from snn_exp.config import schemas
    from snn_exp.config.experiment import SETTINGS
    from snn_exp.registry import parameters_of

    found = {
        kind: [(p.name, p) for option in options.values() for p in option.parameters]
        for kind, options in schemas.load().items()
    }
    found |= {group: [(p.name, p) for p in parameters_of(cls)] for group, cls in SETTINGS.items()}
    return {group: parameters for group, parameters in found.items() if parameters}


def typo(rng: random.Random, word: str) -> str:
    if not word:
        return "x"
    at = rng.randrange(len(word))
    return rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + rng.choice("abcxyz_é") + word[at:],
            word.upper(),
            word + " ",
            word[::-1],
            word + "s",
        )
    )


def proper(rng: random.Random, p: Any) -> str:
    """A value that its parameter allows."""
    if p.optional and rng.random() < 0.1:
        return "null"
    if p.type == "choice":
        return rng.choice(p.choices)
    if p.type == "bool":
        return rng.choice(("true", "false", "True", "yes", "on", "1"))
    if p.type == "str":
        return rng.choice(("a", "a_b", "x1"))
    low = p.ge if p.ge is not None else p.gt if p.gt is not None else -10
    high = p.le if p.le is not None else p.lt if p.lt is not None else low + rng.choice((1, 3, 10, 64, 300))
    if p.type == "int":
        return str(rng.randint(int(low), max(int(low), int(high))))
    return f"{rng.uniform(low, high):.4g}" if rng.random() < 0.8 else rng.choice(("1e-3", "0.5", "2", "1", "2e0"))


def value(rng: random.Random, p: Any = None) -> str:
    """Anything that may stand behind an equals sign."""
    draw = rng.random()
    if p is not None and draw < 0.35:
        return proper(rng, p)
    if draw < 0.55:
        number = rng.choice(hostile.NUMBERS)
        if isinstance(number, int) and abs(number) > 10**300:
            return rng.choice(("9" * 5000, "-" + "9" * 5000, "1" + "0" * 400, "0." + "9" * 5000))
        return rng.choice((str(number), f"{number:e}" if isinstance(number, float) else f"{number}.0", f"'{number}'"))
    if draw < 0.7:
        return hostile.text(rng)
    if draw < 0.8:
        return rng.choice(("'", '"')) + hostile.text(rng) + rng.choice(("'", '"', ""))
    if draw < 0.95:
        few = ",".join(value(rng, p) for _ in range(rng.randint(0, 3)))
        return rng.choice(("[{}]", "{}", "choice({})", "range({})", "interval({})", "{{a:{}}}", "sort({})", "shuffle({})", "glob({})", "int({})", "${{{}}}",
                           "tag(x,{})", "str({})", "{},{}", "[[{}]", "({})", "float({})", "json_str({})", "extend_list({})", "oc.env({})")).format(few, few)  # fmt: skip
    return rng.choice((hostile.nested(60), hostile.nested(1500), hostile.nested(300, "()"), "{a:" * 200 + "1" + "}" * 200, "x" * 50_000, "," * 500, "'" * 501, "${" * 300,
                       "${seed" + "}" * 50, "\\" * 99, "1," * 5000 + "1", "range(0,99999)", "range(0,999999999)"))  # fmt: skip


def override(rng: random.Random, *, many: bool = False) -> str:
    """One, of which most are nearly right."""
    draw = rng.random()
    if draw < 0.25:
        return rng.choice(WORDS)
    group = rng.choice(list(groups()))
    options = groups()[group]
    if draw < 0.5:
        names = (
            rng.sample(options, min(len(options), rng.choice((2, 3))))
            if many and rng.random() < 0.6
            else [rng.choice(options)]
        )
        if rng.random() < 0.12:
            names[0] = typo(rng, names[0])
        text = f"{group}={','.join(names)}"
    elif draw < 0.9 and group in keys():
        key, parameter = rng.choice(keys()[group])
        if rng.random() < 0.06:
            key = typo(rng, key)
        given = proper(rng, parameter) if rng.random() < 0.5 else value(rng, parameter)
        if many and rng.random() < 0.5:
            given = ",".join([given, proper(rng, parameter)])
        text = f"{group}.{key}={given}"
    elif draw < 0.96:
        text = f"{rng.choice(('seed', 'teacher', 'experiment', 'method'))}={value(rng)}"
    else:
        text = f"{hostile.text(rng)}={value(rng)}"
    if rng.random() < 0.12:
        text = rng.choice(("+", "++", "~", "+++", "-", "--", " ", "@", "/", "hydra.", "x.")) + text
    if rng.random() < 0.04:
        text = text.replace(
            "=", rng.choice((" =", "= ", ":", "==", "@x=", "@_global_=", "@_here_=", "@a:b=", ".x=", "/x=", "")), 1
        )
    return text


def _starts_others(word: str) -> bool:
    """Whether a train command with it would train in processes of its own, in which nothing stands in for that."""
    return "joblib" in word or "quick" in word or "submitit" in word or "ray" in word


def overrides(rng: random.Random, *, many: bool = False) -> list[str]:
    found = [override(rng, many=many) for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4, 6)))]
    if rng.random() < 0.7:  # the key of one is not the key of another, most of the time
        found = list({word.lstrip("+~").partition("=")[0]: word for word in found}.values())
    return found


def sound(rng: random.Random) -> list[str]:
    """Choices and values that are allowed each for itself, on a small network and data that are there."""
    chosen = {group: rng.choice(options) for group, options in groups().items() if rng.random() < 0.15}
    for group in ("method", "experiment", "logger", "depth", "trainer", "energy"):
        chosen.pop(group, None)
    chosen["dataset"] = rng.choice(("digits_200", "digits_200", "digits_200", "digits", "digits_dvs"))
    words = [f"{group}={name}" for group, name in chosen.items()]
    from snn_exp.config import schemas

    for group, name in {
        "neuron": "lif",
        "norm": "bn",
        "residual": "pre",
        "optim": "adamw",
        "network": "resnet",
        **chosen,
    }.items():
        option = schemas.load().get(group, {}).get(name)
        for p in option.parameters if option else ():
            if rng.random() < 0.06 and p.name not in ("split_seed", "path"):
                words.append(f"{group}.{p.name}={proper(rng, p)}")
    words = [word for word in words if not word.startswith("network.width")]
    if rng.random() < 0.3:
        words += (
            [f"optim.batch_size={rng.choice((1, 2, 3, 7, 200))}"]
            if not any("batch_size" in word for word in words)
            else []
        )
    if rng.random() < 0.3:
        words += [
            f"trainer.{rng.choice(('precision=bf16-mixed', 'precision=64-true', 'channels_last=true', 'checkpoint_activations=true', 'kernels=fused', 'kernels=reference'))}"
        ]
    if rng.random() < 0.4 and "encoding" not in chosen:
        words += [f"encoding.num_steps={rng.choice((1, 2, 3, 5))}"]
    return [
        *words,
        f"network.width={rng.choice((1, 2, 3, 4, 4, 4, 6))}",
        f"depth.num_layers={rng.choice((8, 8, 14) if chosen.get('network', 'resnet') == 'resnet' else (2, 3, 5, 9))}",
        "trainer.max_epochs=1",
        "logger=none",
    ]


FLAGS = (
    "--cfg", "--cfg job", "--cfg hydra", "--cfg all", "--cfg x", "-c job", "--info", "--info all", "--info x", "-i searchpath", "--hydra-help", "--resolve",
    "--cfg job --resolve", "--package neuron --cfg job", "-p x --cfg job", "-sc install=bash", "--shell-completion query=bash", "-sc x", "--version", "-h", "--help",
    "--config-dir", "--config-dir nowhere", "--config-dir /dev/null", "--config-dir /", "-cd ../configs", "--config-dir=", "--config-dir /proc", "--config-path x",
    "--config-name x", "-cn x", "--experimental-rerun x", "--run", "-r", "--multirun --cfg job", "--skip-refused", "--rerun", "--calibrate", "--yes", "--json",
    "--objective x", "--cfg job neuron=s2nn", "--cfg job +x=1", "--cfg job neuron=[", "--cfg hydra hydra.run.dir=/tmp/x", "--info defaults-tree", "-m --info", "--", "-- -m",
)  # fmt: skip
LAYOUTS = (
    "html",
    "md",
    "csv",
    "tex",
    "png",
    "pdf",
    "html,md,tex,csv",
    "",
    ",",
    "x",
    "html,html",
    "HTML",
    " html",
    "html,x",
    "../x",
    "pdf,\x1b[1m",
)


def _filters(rng: random.Random) -> list[str]:
    right = ("neuron=lif", "neuron.tau=2", "neuron.tau=2.0", "neuron.tau=2e0", "dataset=digits_200", "seed=0", "seed=0,1", "seed=[0,1]", "state=done", "state=failed",
             "state=x", "optim.lr=5e-3", "optim.clip_norm=null", "neuron.detach_reset=false", "depth=d8", "depth=8", "method=lif_bn", "experiment=quick", "id=x", "teacher=null",
             "neuron=glob(*)", "seed=range(3)", "neuron=lif, s2nn", "trainer.max_epochs=1")  # fmt: skip
    return [rng.choice(right) if rng.random() < 0.6 else override(rng) for _ in range(rng.choice((0, 1, 1, 2)))]


def _run(rng: random.Random, box: Box) -> str:
    """A run, the beginning of one, something else that lies about, or nothing of the kind."""
    known = [path.name for path in run_folders(box)]
    one = rng.choice(known)
    return rng.choice((one, one, one, one[:4], str(box.runs / one), one[:1], "", ".", "..", "/", "../runs/" + one, one.upper(), one + "/", "*", "zz", f"{one}/result.json",
                       "/etc", "/dev/null", hostile.text(rng), "x" * 300, one + "\n", "../../studies/tiny", "~", "%00"))  # fmt: skip


def _report(rng: random.Random) -> list[str]:
    words = rng.choice(
        (["tiny"], _filters(rng), _filters(rng), ["x"], ["dataset=digits_200"], ["../tiny"], [""], ["tiny", "seed=0"])
    )
    if rng.random() < 0.5:
        words += [
            "--by",
            rng.choice(
                (
                    "neuron",
                    "neuron,norm",
                    "seed",
                    "x",
                    "",
                    ",",
                    "neuron.tau",
                    "optim.lr",
                    hostile.text(rng),
                    typo(rng, "neuron"),
                )
            ),
        ]
    if rng.random() < 0.4:
        words += [
            "--versus",
            rng.choice(
                (
                    "neuron=lif",
                    "neuron.tau=2",
                    "norm=bn",
                    "x",
                    "lif",
                    "neuron=",
                    "seed=0",
                    "",
                    "=",
                    hostile.text(rng),
                    "neuron=lif,norm=bn",
                )
            ),
        ]
    if rng.random() < 0.3:
        words += [
            "--metric",
            rng.choice(
                (
                    "test/acc",
                    "val/acc",
                    "test/energy_pj",
                    "x",
                    "",
                    "../x",
                    "duration_s",
                    hostile.text(rng),
                    "status",
                    "test/synops_ac",
                )
            ),
        ]
    if rng.random() < 0.2:
        words += ["--margin", rng.choice(("0.01", "0", "-1", "nan", "inf", "x", "1e400", ""))]
    if rng.random() < 0.2:
        words += [
            "--energy",
            rng.choice(("h45_fp32_onchip", "h45_int8", "h45", "", "null", "[a,b]", hostile.text(rng))),
        ]
    if rng.random() < 0.6:
        words += ["--format", rng.choice(LAYOUTS)]
    return words


def line(rng: random.Random, box: Box) -> Call:
    """A command line in a box with the base's runs."""
    command = rng.choices(list(COMMANDS), list(COMMANDS.values()))[0]
    words: list[str]
    changes: tuple[str, ...] = ()
    match command:
        case "plan" | "search":
            words = [command, *overrides(rng, many=command == "search" or rng.random() < 0.1)]
            if command == "search":  # its trials would train: what is left open must be wrong, or the package missing
                words += rng.choice(
                    ([], ["--objective", rng.choice(("val/acc", "val/acc,val/energy_pj", "x", "", "test/acc", ","))])
                )
                changes = ("out/*",)
        case "plan -m":
            words = ["plan", "-m", *overrides(rng, many=True)]
        case "show":
            words = ["show", *TINY[:3], *overrides(rng)]
            if rng.random() < 0.1:
                words += [
                    "--picture",
                    rng.choice(("../out/x.png", "x", "../out/x.jpg", "", "/dev/null/x.png", "../out/nowhere/x.png")),
                ]
                changes = ("out/*",)
        case "train":
            words = [
                "train",
                *[o for o in overrides(rng) if not _starts_others(o)],
                *rng.choice(([], [], ["--rerun"], ["--skip-refused"])),
            ]
            changes = ("out/*",)
        case "plan and show" | "plan and train":
            words, changes = ["python", command, *sound(rng)], ("out/*",)
        case "train -m":  # few cells, since each is a job
            words = [
                "train",
                "-m",
                *[
                    o
                    for o in overrides(rng, many=True)
                    if "range" not in o and o.count(",") < 4 and "glob" not in o and not _starts_others(o)
                ][:3],
            ]
            words += rng.choice(([], [], ["--rerun"], ["--skip-refused"], ["--skip-refused"]))
            changes = ("out/*",)
        case "runs":
            words = [
                "runs",
                *rng.choice(([], ["list"], ["clean"], ["clean"])),
                *_filters(rng),
                *rng.choice(([], ["--yes"])),
            ]
            changes = ("out/runs/*",) if "clean" in words and "--yes" in words else ()
        case "report":
            words, changes = ["report", *_report(rng)], ("out/reports*", "studies/tiny/*")
        case "dashboard":
            words, changes = (
                ["dashboard", *rng.choice((["tiny"], _filters(rng)))],
                ("out/dashboards*", "studies/tiny/*"),
            )
        case "options":
            words = [
                "options",
                *rng.choice(
                    (
                        [],
                        ["neuron"],
                        [rng.choice(list(groups()))],
                        [typo(rng, "neuron")],
                        [hostile.text(rng)],
                        ["--json"],
                        ["neuron", "--json"],
                        ["a", "b"],
                    )
                ),
            ]
        case "diff":
            words = ["diff", *[_run(rng, box) for _ in range(rng.choice((1, 2, 2, 2, 2, 3)))]]
        case "eval":
            over = rng.choice(
                (
                    [],
                    ["encoding.num_steps=2"],
                    ["dataset=digits"],
                    overrides(rng),
                    [override(rng)],
                    ["encoding=rate"],
                    ["dataset.split_seed=1"],
                    ["encoding.num_steps=8"],
                )
            )
            words = ["eval", _run(rng, box), *over]
        case "predict":
            paths = ("a.png", ".", "outputs", "/dev/null", "a.npz", "", "studies", hostile.text(rng))
            flags = rng.choice(([], ["--json"], ["--resize"], ["-x"]))
            words = ["predict", _run(rng, box), *[rng.choice(paths) for _ in range(rng.choice((0, 1, 1, 2)))], *flags]
        case "verify" | "fold":
            words, changes = [command, _run(rng, box), *rng.choice(([], ["--int8"], ["-x"]))], ("out/*",)
        case "pack":
            flags = rng.choice(([], [], ["--licence", hostile.text(rng)], ["--to", "out/packed/x.zip"], ["-x"]))
            words, changes = ["pack", rng.choice((_run(rng, box), "psp_depth", "")), *flags], ("out/packed/*",)
        case "unpack":
            words = [
                "unpack",
                rng.choice(("out/packed/x.zip", "a.npz", "a.png", ".", "/dev/null", "", hostile.text(rng))),
            ]
            changes = ("out/runs/*",)
        case "export":
            words = [
                "export",
                _run(rng, box),
                "--format",
                rng.choice(("safetensors", "safetensors", "nir", "onnx", "x", "")),
                *rng.choice(([], ["--folded"])),
            ]
            changes = ("out/runs/*",)
        case "study":
            names = ["tiny", "tiny", "tiny", "x", "", "../tiny", "tin", "/etc", hostile.text(rng)]
            words = [
                "study",
                *rng.choice(([], [rng.choice(names)])),
                *rng.choice(
                    (
                        ["--plan"],
                        ["--plan"],
                        [],
                        ["--only", rng.choice(("d8/*", "x", "", "[", "*/lif"))],
                        ["--verify", rng.choice(("0", "-1", "x"))],
                        [
                            "--plan",
                            "--method",
                            rng.choice(("mine=norm=bn", "mine=", "=", "lif=norm=bn", f"m={override(rng)}")),
                        ],
                        ["--best", *rng.choice(([], ["--plan"], ["--only", "*/lif"]))],
                    )
                ),
            ]
            words += rng.choice(([], [], [override(rng)]))
            changes = ("out/*", "studies/tiny/*")
        case "evidence":
            words, changes = ["evidence", *rng.choice(([], [], ["x"], ["--x"]))], ("studies/README.md",)
        case "data":
            words = ["data", *rng.choice(([], ["check"], ["fetch"], ["check", "digits"], ["check", "mnist"], ["fetch", "digits"], ["check", "digits", override(rng)],
                                          ["x"], ["check", "x"], ["fetch", "digits", "x"], ["--json"], ["check", hostile.text(rng)]))]  # fmt: skip
            changes = ("out/*",)
        case "new":
            kinds = ("neuron", "norm", "surrogate", "dataset", "network", "nueron", "", hostile.text(rng))
            called = (
                "mine",
                "mine",
                "my_part",
                "my_part",
                "a1",
                "lif",
                "../x",
                "class",
                "None",
                "x" * 300,
                "Mine",
                "",
                hostile.text(rng),
            )
            places = ("../out", "../out", "../out", "../out/runs", "/dev/null", "/dev/null/x")
            words = [
                "new",
                rng.choice(kinds),
                rng.choice(called),
                "--into",
                rng.choice(places),
                *rng.choice(([], ["-x"])),
            ]
            changes = ("out/*",)
        case "completion":
            asked = rng.choice(
                (
                    ["train"],
                    ["plan", "-m"],
                    ["fold"],
                    ["runs"],
                    ["report"],
                    ["study", "tiny"],
                    ["new"],
                    [],
                    [rng.choice(WORDS)],
                )
            )
            typed = (
                *overrides(rng, many=True),
                rng.choice(WORDS),
                hostile.text(rng),
                f"{override(rng)},",
                "--format",
                "--only",
                "--columns",
                "",
                "teacher=",
            )
            words = [
                "completion",
                rng.choice(("answer", "answer", "answer", "bash", "zsh", "fish", "x", "")),
                *asked,
                *[rng.choice(typed) for _ in range(rng.choice((0, 1, 1, 2, 3)))],
            ]
        case "doctor":
            words, changes = ["doctor", *rng.choice(([], ["x"], ["--x"]))], ("out/*",)
        case "flags":
            words = [
                rng.choice(
                    (
                        "train",
                        "train",
                        "train",
                        "plan",
                        "show",
                        "search",
                        "report",
                        "runs",
                        "options",
                        "fold",
                        "study",
                        "",
                    )
                ),
                *rng.choice(FLAGS).split(" "),
            ]
            if "-m" in words or "--run" in words or "-r" in words:
                words.append("seed=zz")
            changes = ("out/*",)
        case _:
            words = rng.choice(([], [hostile.text(rng)], [rng.choice(WORDS)], ["trian"], ["TRAIN"], [""], ["-h"], ["--help"], ["--version"], ["help"], ["train", "--help"],
                                ["train", "train"], ["eval"], ["fold"], ["export", "x"], ["plan", "x"], ["plan", "tiny"], ["plan", "psp_depth"], ["diff"], ["runs", "clean"]))  # fmt: skip
            changes = ("out/*",)
    words = [word.replace("\x00", "") for word in words]  # no system hands it over
    more: dict[str, Any] = {}
    if rng.random() < 0.04:
        more["stdout"] = rng.choice(("pipe", "full"))
    elif rng.random() < 0.06 and command not in ("diff", "eval", "fold", "export", "verify"):
        more["sees"], changes = _elsewhere(rng, box), ("out*",)
    keeps = tuple(f"out/runs/{path.name}*" for path in run_folders(box)) if command.startswith("train") else ()
    return Call(tuple(words), (*changes, "out/.gitignore"), keeps, trains=command == "plan and train", **more)


def _elsewhere(rng: random.Random, box: Box) -> tuple[tuple[str, str], ...]:
    """An environment in which the output root has another name, or is none."""
    name = rng.choice(("a b", "it's", 'a"b', "${seed}", "$HOME", "${oc.env:HOME}", "a,b", "a=b", "[x]", "{x}", "ü", "\udcff", "\n", "\x1b[31m", "[/]", "-m", "~", "%s", "x" * 200, "x" * 300,
                       "a/b/c", "..", "*", "a:b", "#", "'", "\\", "<b>", "a;b"))  # fmt: skip
    out = box / "out"
    kind = rng.choice(
        (
            "name",
            "name",
            "name",
            "file",
            "below a file",
            "full",
            "empty",
            "loop",
            "nowhere",
            "columns",
            "no home",
            "relative",
        )
    )
    if kind == "file":
        (out / "file").write_text("x")
    elif kind == "loop":
        (out / "loop").symlink_to("loop")
    places = {"name": str(out / name), "file": str(out / "file"), "below a file": str(out / "runs.txt" / "x"), "full": "/dev/full", "empty": "", "loop": str(out / "loop"),
              "nowhere": str(out / "nowhere" / "x"), "relative": "../out"}  # fmt: skip
    if kind == "below a file":
        (out / "runs.txt").write_text("x")
    if kind == "columns":
        return tuple(
            (key, value)
            for key, value in {
                "COLUMNS": rng.choice(("1", "0", "-1", "x", "40", "100000")),
                "TERM": rng.choice(("dumb", "", "xterm")),
                "NO_COLOR": "1",
            }.items()
        )
    if kind == "no home":
        return (("HOME", ""), ("PATH", ""), ("LANG", "x"))
    if kind == "empty":  # then it is outputs/ below the working folder
        return (("COLUMNS", "20"),)
    return (("SNN_EXP_OUTPUT", places[kind]),)
