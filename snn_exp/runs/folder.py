"""A run on disk: one folder, named by the run's identity. No torch.

outputs/runs/<run_id>/
    manifest.json         what was asked for and how it was done: written first
    metrics.csv           one row per epoch
    train.log             the printed output
    weights.safetensors   the best weights
    result.json           the result: written last, so that its presence means "done"
    folded.safetensors    the network without its norms, once `snn-exp fold` was asked for it,
    folded.json           and what was folded: written last
    export/               the network in other formats, each with what a reader of it found, beside it in JSON:
                          see `snn-exp export`
    failure.json          instead, when the run crashed; the same command tries again
    pruned.json           instead, when a search stopped it early; its snn-exp train command resumes it
    checkpoints/          while it is not done
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from snn_exp.config.execution_rules import Chosen
from snn_exp.config.experiment import ASIDE, EXECUTION, ExperimentConfig, execution, resolve
from snn_exp.errors import UserError, say_once
from snn_exp.files import Unreadable, is_within, printable, write_json
from snn_exp.runs import run_files
from snn_exp.runs.lock import refuse_if_taken
from snn_exp.runs.paths import output_root
from snn_exp.runs.provenance import code_hash, git_state, now, package_versions
from snn_exp.runs.run_files import Result
from snn_exp.runs.validation import NEWER

T = TypeVar("T")
PLAIN = {"used": "reference", "why": "nothing else was chosen"}


class DamagedRun(UserError):
    """A run whose folder has an unreadable file.

    Args:
        name: of its folder.
        reason: the first thing that is wrong.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(
            f"run {name} is damaged: {reason}; add --rerun to its snn-exp train command to train it again and keep the "
            f"old folder, or remove it by {CLEAN}"
            if not self.is_newer
            else f"run {name} cannot be read: {reason}; install that version, or add --rerun to train it again here"
        )

    def __reduce__(self) -> Any:
        return type(self), (self.name, self.reason)

    @property
    def is_newer(self) -> bool:
        """Return whether a newer version of snn_exp wrote the run, and nothing else is wrong."""
        return NEWER in self.reason

    def say(self) -> None:
        """Say once per command that this run is left out."""
        then = "" if self.is_newer else f"; {CLEAN} removes it"
        say_once(f"left out: run {self.name}: {self.reason}{then}")


CLEAN = "`snn-exp runs clean state=damaged`"


@dataclasses.dataclass(frozen=True)
class Contents:
    """The stored files of a run, all of them readable.

    Args:
        result: None if it is not done.
        manifest: empty if there is none yet.
        failure: the last line of the error that crashed it, if any.
        epochs: the rows of metrics.csv.
        pruned: where a search stopped it, if one did.
    """

    result: Result | None
    manifest: Mapping[str, Any]
    failure: str | None
    epochs: list[dict[str, str]]
    pruned: run_files.Pruned | None = None


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; its name is the run id.
    """

    path: Path

    @classmethod
    def of(cls, config: ExperimentConfig) -> RunFolder:
        """Return the folder of a config under the current output root."""
        return cls(output_root() / "runs" / config.run_id)

    @property
    def weights(self) -> Path:
        """Return the path of the best weights, a safetensors file."""
        return self.path / "weights.safetensors"

    @property
    def folded(self) -> Path:
        """Return the path of the best weights with the norms folded into them, a safetensors file."""
        return self.path / "folded.safetensors"

    @property
    def predictions(self) -> Path:
        """Return the path of logits and labels of the test set, which trainer.keep_predictions=true stores."""
        return self.path / "test_predictions.npz"

    @property
    def exports(self) -> Path:
        """Return the folder of the network in other formats."""
        return self.path / "export"

    @property
    def metrics_csv(self) -> Path:
        """Return the path of metrics.csv, with one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints that an interrupted run resumes from."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint, if the run was interrupted after one."""
        both = (self.checkpoints / name for name in ("last.ckpt", "best.ckpt"))  # a kill may come between the two
        return next((path for path in both if path.exists()), None)

    @functools.cached_property
    def _outermost(self) -> Path:
        """Return the folder that no link may lead out of: that of all runs, or its own if given by its path."""
        runs = output_root() / "runs"
        return runs if self.path.parent == runs else self.path

    def _read(self, name: str, read: Callable[[Path, Path], T]) -> T:
        """Read a file.

        Raises:
            FileNotFoundError: there is none.
            DamagedRun: it cannot be read.
        """
        try:
            return read(self.path / name, self._outermost)
        except Unreadable as error:
            raise DamagedRun(self.path.name, f"{name} {error.reason}") from None

    def result(self) -> Result | None:
        """Return the result, or None if the run is not done.

        Raises:
            DamagedRun: result.json cannot be read, or is of another run.
        """
        try:
            result = self._read("result.json", run_files.read_result)
        except FileNotFoundError:
            return None
        name = self.path.name
        if self._outermost != self.path and result.run_id != name.partition(".")[0]:
            raise DamagedRun(name, f"result.json is of run {result.run_id}")
        return result

    def sound_result(self) -> Result | None:
        """Return the result, or None if the run is not done or is damaged; damage is reported once per command."""
        try:
            return self.result()
        except DamagedRun as damaged:
            damaged.say()
            return None

    def contents(self) -> Contents:
        """Read all stored files of the run, except weights and checkpoints.

        Raises:
            DamagedRun: something of it cannot be read, or a link in the folder leads out of it.
        """
        found = self._entries()
        result = self.result() if "result.json" in found else None
        failure = None
        if "failure.json" in found:
            with contextlib.suppress(FileNotFoundError):  # the run has begun again meanwhile
                failure = self._read("failure.json", run_files.read_failure).error
        if "owner" in found:
            with contextlib.suppress(FileNotFoundError):  # who trains it has ended meanwhile
                self._read("owner/owner.json", run_files.read_owner)
        return Contents(
            result,
            self.manifest() if "manifest.json" in found else {},
            failure,
            self.epochs() if "metrics.csv" in found else [],
            self.pruned() if "pruned.json" in found else None,
        )

    def damage(self) -> str | None:
        """Return a sentence on what is unreadable in the run, and what to type; None if nothing is."""
        try:
            self.contents()
        except DamagedRun as damaged:
            return str(damaged)
        return None

    def _entries(self) -> set[str]:
        """Return the names in the folder and in those that are written to; empty if there is none."""
        try:
            top = {entry.name: entry for entry in os.scandir(self.path)}
            below: list[os.DirEntry[str]] = []
            for name in ("checkpoints", "export", "owner"):
                if name in top and top[name].is_dir(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # who trains it has ended meanwhile
                        below += os.scandir(top[name])
        except FileNotFoundError:
            if self.path.is_symlink():
                raise DamagedRun(self.path.name, "it is a broken link") from None
            return set()
        except NotADirectoryError:
            raise DamagedRun(self.path.name, "it is not a folder") from None
        except OSError as error:
            raise DamagedRun(self.path.name, f"its folder cannot be read ({error.strerror})") from None
        outermost = self._outermost
        if self.path.is_symlink() and not is_within(self.path, outermost):
            raise DamagedRun(self.path.name, f"it is a link that leads out of {outermost}")
        for entry in (*top.values(), *below):
            if entry.is_symlink() and not is_within(entry.path, outermost):
                name = printable(Path(entry.path).relative_to(self.path).as_posix())
                raise DamagedRun(self.path.name, f"{name} is a link that leads out of {outermost}")
        return set(top)

    def trained(self) -> Result:
        """Return the result of a run that has weights.

        Raises:
            UserError: the run is not finished, crashed, diverged, or is damaged.
        """
        result = self.contents().result
        if result is None:
            crashed, pruned = self.failure(), self.pruned()
            early = f"was stopped by a search after epoch {pruned.num_epochs}" if pruned else "is not finished"
            reason = f"crashed ({crashed})" if crashed else early
            raise UserError(f"run {self.path.name} {reason}; type its snn-exp train command again to finish it first")
        if result.status == "diverged":
            raise UserError(f"run {self.path.name} diverged, so it has no trained weights; choose another run")
        return result

    def trained_config(self) -> ExperimentConfig:
        """Return the config of a run that has weights.

        Raises:
            UserError: as `trained`, or it was trained with an older, incompatible version of a component.
        """
        result = self.trained()
        config = resolve(result.config)
        if config.run_id != result.run_id:
            raise UserError(
                f"run {result.run_id} was trained with an older, incompatible version of a component: the same "
                f"config is run {config.run_id} now; train it again"
            )
        return config

    def complete_result(self, config: ExperimentConfig) -> Result | None:
        """Return the result if nothing is left to do: trained, tested and predictions kept if asked for; else None.

        A diverged run is done.

        Raises:
            DamagedRun: a stored file cannot be read.
        """
        result = self.contents().result
        if result is None:
            return None
        is_tested = "test/acc" in result.metrics and (not config.trainer.keep_predictions or self.predictions.exists())
        return result if result.status == "diverged" or is_tested or not config.trainer.test else None

    def is_complete(self, config: ExperimentConfig) -> bool:
        """Return whether nothing is left to do: see `complete_result`."""
        return self.complete_result(config) is not None

    def failure(self) -> str | None:
        """Return the last line of the error that crashed the run, if any."""
        try:
            return printable(self._read("failure.json", run_files.read_failure).error, 2000)
        except FileNotFoundError:
            return None
        except DamagedRun as damaged:
            return damaged.reason

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; empty if there is none yet.

        Raises:
            DamagedRun: it cannot be read, or is of another run.
        """
        try:
            manifest = self._read("manifest.json", run_files.read_manifest)
        except FileNotFoundError:
            return {}
        name = self.path.name
        if self._outermost != self.path and manifest.get("run_id") not in (None, name.partition(".")[0]):
            raise DamagedRun(name, f"manifest.json is of run {manifest['run_id']}")
        return manifest

    def split_fingerprints(self) -> list[str]:
        """Return the split fingerprints in the manifest and in the result.

        The manifest has it from the start, except in a run of an older version, and the result at the end.
        """
        result = self.result()
        said = (self.manifest().get("split_fingerprint"), None if result is None else result.split_fingerprint)
        return [str(fingerprint) for fingerprint in said if fingerprint is not None]

    def test_fingerprint(self) -> str | None:
        """Return the fingerprint of the test set used; None before the test, and in a run of an older version."""
        stored = self.manifest().get("test_fingerprint")
        return None if stored is None else str(stored)

    def keep_test_fingerprint(self, fingerprint: str) -> None:
        """Add the test set's fingerprint to the manifest, once the run is tested."""
        write_json(self.path / "manifest.json", {**self.manifest(), "test_fingerprint": fingerprint})

    def keep_ways(self, ways: Mapping[str, Mapping[str, float]]) -> None:
        """Add to the manifest how the layers that read spikes computed, once the run is trained."""
        write_json(self.path / "manifest.json", {**self.manifest(), "ways": ways})

    def epochs(self) -> list[dict[str, str]]:
        """Return the rows of metrics.csv.

        Raises:
            DamagedRun: it cannot be read.
        """
        return self._read("metrics.csv", run_files.read_epochs)

    def begin(
        self,
        config: ExperimentConfig,
        hardware: Mapping[str, Any],
        kernels: Mapping[str, str] = PLAIN,
        *,
        in_step: bool = False,
        answers: Mapping[str, Chosen[Any]] = MappingProxyType({}),
        split_fingerprint: str | None = None,
        initial: Mapping[str, str] | None = None,
    ) -> None:
        """Make the folder and write the manifest; clear an earlier failure.

        The execution in the manifest records what was done, not what was asked for.

        Args:
            config: the config of the run.
            hardware: the hardware that it runs on.
            kernels: the kernels used, and why.
            in_step: with other seeds.
            answers: what `auto` is in fields of the trainer group, and why.
            split_fingerprint: of the data.
            initial: the run that it starts from, its weights, and what was taken of them.
        """
        done_by = execution(config)
        done_by["trainer"] |= {"kernels": kernels["used"], "vectorized_seeds": in_step}
        done_by["trainer"] |= {field: answer.value for field, answer in answers.items()}
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "failure.json").unlink(missing_ok=True)
        (self.path / "pruned.json").unlink(missing_ok=True)
        if self.last_checkpoint is None:
            self.metrics_csv.unlink(missing_ok=True)
        write_json(
            self.path / "manifest.json",
            {
                "run_id": config.run_id,
                "config": config.to_plain(),
                "execution": done_by,
                "kernels": dict(kernels),
                "answers": {field: answer.why for field, answer in answers.items()},
                "split_fingerprint": split_fingerprint,
                "initial": dict(initial or {}),
                "versions": package_versions(),
                "code": code_hash(),
                "git": git_state(),
                "hardware": {"machine": platform.machine(), "system": platform.system(), **hardware},
                "started_at": now(),
            },
        )

    def finish(self, result: Result) -> None:
        """Write result.json, then remove what only an unfinished run needs."""
        write_json(self.path / "result.json", dataclasses.asdict(result))
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def fail(self, error: str, trace: str, config: ExperimentConfig | None = None) -> None:
        """Store why the run crashed, and write the trace into its log.

        Args:
            error: the last line of the error.
            trace: the traceback.
            config: of the run, which is stored if it crashed before its manifest was written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "pruned.json").unlink(missing_ok=True)
        write_json(self.path / "failure.json", {"error": error, "traceback": trace, "failed_at": now()})
        with (self.path / "train.log").open("a", encoding="utf-8") as log:
            log.write(trace.rstrip() + "\n")
        if config is not None and not (self.path / "manifest.json").exists():
            write_json(self.path / "manifest.json", {"run_id": config.run_id, "config": config.to_plain()})

    def prune(self, num_epochs: int, metrics: Mapping[str, float], duration_s: float, cpu_s: float) -> run_files.Pruned:
        """Store that a search stopped the run, and return what was stored; its checkpoint stays.

        Args:
            num_epochs: after how many epochs.
            metrics: of the last of them.
            duration_s: wall time of training.
            cpu_s: process CPU time of training.
        """
        pruned = run_files.Pruned(
            num_epochs=num_epochs, metrics=dict(metrics), duration_s=duration_s, cpu_s=cpu_s, pruned_at=now()
        )
        write_json(self.path / "pruned.json", pruned.model_dump())
        return pruned

    def pruned(self) -> run_files.Pruned | None:
        """Return where a search stopped the run; None if none did, or it has been trained on since.

        Raises:
            DamagedRun: pruned.json cannot be read.
        """
        try:
            return self._read("pruned.json", run_files.read_pruned)
        except FileNotFoundError:
            return None

    def set_aside(self) -> None:
        """Rename the folder, so that the run is trained again and the old one kept.

        Raises:
            Taken: a living process trains it.
        """
        if os.path.lexists(self.path):
            if not self.path.is_symlink():  # a link is renamed, whatever it leads to
                refuse_if_taken(self.path)
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
            self.path.rename(self.path.with_name(f"{self.path.name}.kept-{stamp}"))

    def check_stored(self, config: ExperimentConfig) -> str | None:
        """Return a line to print if the stored run was made by other code, else None.

        Raises:
            UserError: the stored config is another one under the same run id.
        """
        manifest = self.manifest()
        stored = manifest.get("config")
        if stored is not None:
            given = config.to_plain()
            ours, theirs = (
                {k: _without_execution(k, v) for k, v in plain.items() if k not in (*ASIDE, "trainer")}
                for plain in (given, stored)
            )
            # keys added since are left out of the identity while neutral, so only shared keys can disagree
            differing = [k for k in ours if k in theirs and not _agree(ours[k], theirs[k])]
            if differing:
                raise UserError(
                    f"run {config.run_id} is stored with a different {differing[0]}: {theirs[differing[0]]} and not "
                    f"{ours[differing[0]]}; train it again with --rerun"
                )
        if manifest.get("code") != code_hash():
            return f"run {config.run_id} was trained with a different version of the code; --rerun trains it again"
        return None


def _without_execution(group: str, values: Any) -> Any:
    """Return a group of a plain config without what says how it is run."""
    aside = EXECUTION.get(group, ())
    return {k: v for k, v in values.items() if k not in aside} if isinstance(values, Mapping) else values


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return all(a[key] == b[key] for key in a.keys() & b.keys())
    return bool(a == b)
