"""What is on disk of a run: one folder, named by the run's identity. No torch.

outputs/runs/<run_id>/
    manifest.json         what was asked for and how it was done: written first
    metrics.csv           a row an epoch
    train.log             what would have been printed
    weights.safetensors   the best weights
    result.json           the result: written last, so that its presence means "done"
    folded.safetensors    the network without its norms, once `snn-exp fold` was asked for it,
    folded.json           and what was folded: written last
    export/               the network in other formats, each with what a reader of it found, beside it in JSON:
                          see `snn-exp export`
    failure.json          instead, when the run crashed; the same command tries again
    checkpoints/          while it is not done
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from snn_exp import menu
from snn_exp.config import ASIDE, ExperimentConfig, execution, resolve
from snn_exp.errors import UserError, nearest
from snn_exp.ownership import refuse_if_taken

Operations = Mapping[str, Mapping[str, float]]  # part of the network -> count -> operations a sample

SCHEMA_VERSION = 1
PLAIN = {"used": "reference", "why": "nothing else was chosen"}
RECORDED_PACKAGES = (
    "snn-exp", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy",
    "scikit-learn", "wandb",
)  # fmt: skip


def output_root() -> Path:
    """Where results go: SNN_EXP_OUTPUT, or outputs/ here."""
    return Path(os.environ.get("SNN_EXP_OUTPUT") or "outputs")


def data_root() -> Path:
    """Where data sets lie: SNN_EXP_DATA, or data/ in the output folder."""
    return Path(os.environ.get("SNN_EXP_DATA") or output_root() / "data")


def require_writable(folder: Path) -> None:
    """Makes the folder, or says that it cannot be written.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write_check_{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"the output folder {folder} cannot be written ({error.strerror}); set SNN_EXP_OUTPUT to one that can"
        ) from None
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Writes a whole file or none: what is written to the scratch file it gives is renamed at the end."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield scratch
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    scratch.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a whole file or none."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or none."""
    with whole_file(path) as scratch:
        scratch.write_text(text)


def read_json(path: str | Path) -> dict[str, Any]:
    """What `write_json` wrote."""
    content: dict[str, Any] = json.loads(Path(path).read_text())
    return content


def read_epochs(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, without a last one that is torn; none if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run, as stored in result.json.

    Args:
        status: done, or diverged (the loss or a weight was no longer finite).
        metrics: flat, such as test/acc (a fraction) and test/firing_rate (spikes a neuron and step).
        duration_s: wall time of training, summed over resumed parts; of seeds in step that of all.
        cpu_s: process CPU time of training, summed likewise, and over processes.
        layers: curves over the layers, before ("init") and after ("trained") training: see probe.py.
        operations: split -> part -> what it counts a sample, see `energy.SynapticOperations`; the totals are
            among the metrics as test/synops_ac and so on. Empty for a diverged run.
        peak_memory_mib: highest memory of training: allocated on a GPU, else resident of the process, the first
            of several, and of seeds in step that of all; None where it was not measured.
        compile_s: wall time of torch.compile, the last where a run was resumed; None where nothing was compiled.
    """

    run_id: str
    status: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    duration_s: float
    cpu_s: float
    finished_at: str
    best_epoch: int | None
    split_fingerprint: str
    layers: Mapping[str, Mapping[str, list[float]]] = dataclasses.field(default_factory=dict)
    peak_memory_mib: float | None = None
    compile_s: float | None = None
    schema_version: int = SCHEMA_VERSION
    operations: Mapping[str, Operations] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One run's folder.

    Args:
        path: the folder; its name is the run id.
    """

    path: Path

    @classmethod
    def of(cls, config: ExperimentConfig) -> RunFolder:
        """The folder of a config under the current output root."""
        return cls(output_root() / "runs" / config.run_id)

    @property
    def weights(self) -> Path:
        """The best weights, in safetensors form."""
        return self.path / "weights.safetensors"

    @property
    def folded(self) -> Path:
        """The best weights with the norms folded into them, in safetensors form."""
        return self.path / "folded.safetensors"

    @property
    def exports(self) -> Path:
        """The network in other formats."""
        return self.path / "export"

    @property
    def metrics_csv(self) -> Path:
        """A row an epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """What an interrupted run resumes from."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint, if the run was interrupted after one."""
        last = self.checkpoints / "last.ckpt"
        return last if last.exists() else None

    def result(self) -> Result | None:
        """The result, or None if the run is not done.

        Raises:
            UserError: result.json is damaged.
        """
        path = self.path / "result.json"
        try:
            return Result(**json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            raise UserError(f"{path} is damaged; remove the folder {self.path} to train the run again") from None

    def trained(self) -> Result:
        """The result of a run that has weights.

        Raises:
            UserError: the run is not finished, crashed, or diverged.
        """
        result = self.result()
        if result is None:
            reason = f"crashed ({failure})" if (failure := self.failure()) else "is not finished"
            raise UserError(f"run {self.path.name} {reason}; type its snn-exp train command again to finish it first")
        if result.status == "diverged":
            raise UserError(f"run {self.path.name} diverged, so it has no trained weights; choose another run")
        return result

    def trained_config(self) -> ExperimentConfig:
        """The config of a run that has weights.

        Raises:
            UserError: as `trained`, or a part means something else today than when the run was trained.
        """
        result = self.trained()
        config = resolve(result.config)
        if config.run_id != result.run_id:
            raise UserError(
                f"run {result.run_id} was trained with parts that mean something else today: the same config is run "
                f"{config.run_id} now; train it again"
            )
        return config

    def is_complete(self, config: ExperimentConfig) -> bool:
        """Whether nothing is left to do: trained, and tested if that is asked for. A diverged run is done."""
        result = self.result()
        if result is None:
            return False
        return result.status == "diverged" or "test/acc" in result.metrics or not config.trainer.test

    def failure(self) -> str | None:
        """The last line of what crashed the run, if it did."""
        try:
            return str(json.loads((self.path / "failure.json").read_text())["error"])
        except (OSError, ValueError, KeyError):
            return None

    def manifest(self) -> dict[str, Any]:
        """The manifest; empty if there is none yet."""
        try:
            content: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
            return content
        except (OSError, ValueError):
            return {}

    def epochs(self) -> list[dict[str, str]]:
        """The rows of metrics.csv."""
        return read_epochs(self.metrics_csv)

    def begin(
        self,
        config: ExperimentConfig,
        hardware: Mapping[str, Any],
        kernels: Mapping[str, str] = PLAIN,
        *,
        in_step: bool = False,
    ) -> None:
        """Makes the folder and writes the manifest; clears an earlier failure.

        How a run is done says what was done, whatever was asked for.

        Args:
            config: what is run.
            hardware: what it is run on.
            kernels: those used, and why.
            in_step: with other seeds.
        """
        done_by = execution(config)
        done_by["trainer"] |= {"kernels": kernels["used"], "vectorized_seeds": in_step}
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "failure.json").unlink(missing_ok=True)
        if self.last_checkpoint is None:
            self.metrics_csv.unlink(missing_ok=True)
        write_json(
            self.path / "manifest.json",
            {
                "run_id": config.run_id,
                "config": config.to_plain(),
                "execution": done_by,
                "kernels": dict(kernels),
                "versions": _versions(),
                "code": code_hash(),
                "git": git_state(),
                "hardware": {"machine": platform.machine(), "system": platform.system(), **hardware},
                "started_at": now(),
            },
        )

    def finish(self, result: Result) -> None:
        """Writes result.json, then drops what only an unfinished run needs."""
        write_json(self.path / "result.json", dataclasses.asdict(result))
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def fail(self, error: str, trace: str) -> None:
        """Stores why the run crashed."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "failure.json", {"error": error, "traceback": trace, "failed_at": now()})

    def set_aside(self) -> None:
        """Renames the folder, so that the run is trained again and the old one kept.

        Raises:
            Taken: a living process trains it.
        """
        if self.path.exists():
            refuse_if_taken(self.path)
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
            self.path.rename(self.path.with_name(f"{self.path.name}.kept-{stamp}"))

    def check_stored(self, config: ExperimentConfig) -> str | None:
        """A line to print when the stored run was made by other code; None if it was not.

        Raises:
            UserError: the stored config is another one under the same run id.
        """
        manifest = self.manifest()
        stored = manifest.get("config")
        if stored is not None:
            given = config.to_plain()
            ours = {k: v for k, v in given.items() if k not in (*ASIDE, "trainer")}
            theirs = {k: v for k, v in stored.items() if k not in (*ASIDE, "trainer")}
            # keys added since are left out of the identity while neutral, so only shared keys can disagree
            differing = [k for k in ours if k in theirs and not _agree(ours[k], theirs[k])]
            if differing:
                raise UserError(
                    f"run {config.run_id} is stored with another {differing[0]}: {theirs[differing[0]]} and not "
                    f"{ours[differing[0]]}; train it again with --rerun"
                )
        if manifest.get("code") != code_hash():
            return f"run {config.run_id} was trained by other code than today's; --rerun trains it again"
        return None


def find_run(given: str) -> RunFolder:
    """The folder of a run.

    Args:
        given: a run id, the beginning of one, or a folder.

    Raises:
        UserError: there is no such run, or several.
    """
    runs = output_root() / "runs"
    for folder in (runs / given, Path(given)):
        if (folder / "manifest.json").exists():
            return RunFolder(folder)
    ids = sorted(path.name for path in runs.glob("*") if "." not in path.name)  # the others were set aside
    matches = [run_id for run_id in ids if run_id.startswith(given)]
    if len(matches) == 1:
        return RunFolder(runs / matches[0])
    if matches:
        raise UserError(
            f"run {given!r} may be {', '.join(matches[:5])}{', ...' if len(matches) > 5 else ''}; type more of it"
        )
    guess = nearest(given, ids)
    hint = f"; did you mean {guess}?" if guess else ""
    raise UserError(f"There is no run {given!r} among the {len(ids)} of {runs}{hint}")


def teacher_of(config: ExperimentConfig) -> RunFolder | None:
    """The finished run that teaches this one; None if none does.

    Raises:
        UserError: there is no such run, it has no weights, or it has learned on other data, another split or seed, or
            from other steps of data with time.
    """
    if config.teacher is None:
        return None
    folder = RunFolder(output_root() / "runs" / config.teacher)
    if not (folder.path / "manifest.json").exists():
        raise UserError(f"teacher={config.teacher} is no run of {folder.path.parent}; train it first")
    theirs = folder.trained_config()
    for key, value in config.dataset.items():
        if theirs.dataset.get(key) != value:
            raise UserError(
                f"teacher={config.teacher} has learned on other data: dataset.{key} is {theirs.dataset.get(key)} there "
                f"and {value} here; choose a teacher of the same data, or train one"
            )
    if theirs.seed != config.seed:
        raise UserError(
            f"teacher={config.teacher} has seed={theirs.seed} and so another split: it may have learned what is "
            f"validated here; choose a teacher of seed={config.seed}, or give the teacher as overrides"
        )
    has_time = menu.load()["dataset"][str(config.dataset["name"])].traits["has_time"]
    if has_time and theirs.num_steps != config.num_steps:
        raise UserError(
            f"teacher={config.teacher} reads {theirs.num_steps} steps of a sample, and both would read the "
            f"{config.num_steps} of this run; choose a teacher with encoding.num_steps={config.num_steps}"
        )
    return folder


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return all(a[key] == b[key] for key in a.keys() & b.keys())
    return bool(a == b)


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def code_hash() -> str:
    """16 hex digits of the package's source."""
    files = sorted(path for kind in ("*.py", "*.cpp") for path in Path(__file__).parent.rglob(kind))
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()[:16]


@functools.cache
def git_state() -> dict[str, Any]:
    """Commit and whether the working tree differs from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
