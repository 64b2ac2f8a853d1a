"""Who trains a run: one process at a time; a dead owner is followed by exactly one other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.runs import lock
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Lost, Taken, owning, refuse_if_taken
from snn_exp.sweeps import launch
from snn_exp.training import job, train
from tests import stored

OWN_AND_WAIT = """
import sys
from pathlib import Path
from snn_exp.runs.lock import owning
with owning(Path(sys.argv[1])):
    print("owned", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that owns tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_AND_WAIT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "owned\n"
    return process


def as_on_another_host(folder: Path, silent_for: float) -> None:
    """The owner looks as if its host were another one, whose last beat was so many seconds ago."""
    path = folder / "owner" / "owner.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "another"}))
    beat = folder / "owner" / "beat"
    now = beat.stat().st_mtime
    os.utime(beat, (now - silent_for, now - silent_for))


def test_a_run_has_one_owner_and_is_free_again_behind_it(tmp_path: Path) -> None:
    with (
        owning(tmp_path),
        pytest.raises(Taken, match=rf"is being trained by process {os.getpid()} on "),
        owning(tmp_path),
    ):
        pass
    with owning(tmp_path) as mine:
        mine.check()
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_its_run_and_a_killed_one_loses_it_at_once(
    tmp_path: Path, elsewhere: subprocess.Popen[str]
) -> None:
    with pytest.raises(Taken, match=rf"by process {elsewhere.pid} on .*; wait until it has ended"):
        refuse_if_taken(tmp_path)
    elsewhere.kill()
    elsewhere.communicate()
    with owning(tmp_path) as mine:
        mine.check()


def test_a_number_that_now_belongs_to_another_process_owns_nothing(tmp_path: Path) -> None:
    with owning(tmp_path):
        path = tmp_path / "owner" / "owner.json"
        owner = json.loads(path.read_text())
        path.write_text(json.dumps({**owner, "ticks": owner["ticks"] - 1}))
        refuse_if_taken(tmp_path)
        del owner["ticks"]  # as on a system that does not say
        path.write_text(json.dumps({**owner, "started": owner["started"] - 60}))
        refuse_if_taken(tmp_path)
        path.write_text(json.dumps(owner))


def test_a_clock_that_is_set_takes_no_run_from_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_time = psutil.Process.create_time
    with owning(tmp_path):
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
        with pytest.raises(Taken, match="is being trained by process"):
            refuse_if_taken(tmp_path)


def test_on_another_host_an_owner_is_gone_after_three_missed_beats(tmp_path: Path) -> None:
    with owning(tmp_path):
        as_on_another_host(tmp_path, silent_for=2.5 * lock.BEAT_S)
        with pytest.raises(Taken, match="on another"):
            refuse_if_taken(tmp_path)
        as_on_another_host(tmp_path, silent_for=1.0 * lock.BEAT_S)  # 35 s in all
        refuse_if_taken(tmp_path)


def test_who_may_only_read_still_sees_whether_a_run_is_being_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with owning(tmp_path):
        as_on_another_host(tmp_path, silent_for=0)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "touch", refuse)
            with pytest.raises(Taken, match="on another"):
                refuse_if_taken(tmp_path)


@pytest.mark.parametrize("content", ["", "null", '{"token": "../../x"}', "[" * 1000])
def test_an_owner_that_cannot_be_read_is_judged_by_its_beat(tmp_path: Path, content: str) -> None:
    with owning(tmp_path / "other") as other:
        other.folder.joinpath("owner").rename(tmp_path / "owner")
    (tmp_path / "owner" / "owner.json").write_text(content)
    with pytest.raises(Taken, match=r"on an unknown host \(owner.json: is not an owner"):
        refuse_if_taken(tmp_path)
    long_ago = (tmp_path / "owner" / "beat").stat().st_mtime - 1000
    os.utime(tmp_path / "owner" / "beat", (long_ago, long_ago))
    refuse_if_taken(tmp_path)
    with owning(tmp_path) as mine:
        mine.check()


@pytest.mark.parametrize("what", ["file", "link", "empty", "put away before", "without a beat"])
def test_what_is_no_owner_is_put_away_or_refused_and_never_waited_for(tmp_path: Path, what: str) -> None:
    run, place = tmp_path / "run", tmp_path / "run" / "owner"
    run.mkdir()
    token = "0" * 32
    sound = json.dumps({"token": token, "host": "another", "where": "", "pid": 1, "started": 0.0})
    if what == "file":
        place.write_text("")
    elif what == "link":
        place.symlink_to(tmp_path)
    else:
        place.mkdir()
        if what != "empty":
            (place / "owner.json").write_text(sound)
    if what == "put away before":
        (run / f"owner.{token}.gone").mkdir()
        (run / f"owner.{token}.gone" / "beat").write_text("")
        with pytest.raises(UserError, match=r"it has an owner that was removed before; .* --rerun"), owning(run):
            pass
        return
    with owning(run) as mine:
        mine.check()
    assert tmp_path.is_dir() and not place.exists()


def test_a_job_moved_here_waits_until_its_dead_owner_elsewhere_has_missed_three_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: subprocess.Popen[str]
) -> None:
    elsewhere.kill()
    elsewhere.communicate()
    as_on_another_host(tmp_path, silent_for=0)
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    with owning(tmp_path) as mine:
        mine.check()
        assert time.time() - ((next(tmp_path.glob("*.gone")) / "beat").stat().st_mtime) > 3 * 0.2


def test_a_dead_owner_whose_clock_was_ahead_is_waited_for_no_longer_and_it_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: subprocess.Popen[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    elsewhere.kill()
    elsewhere.communicate()
    as_on_another_host(tmp_path, silent_for=-86400)
    with pytest.raises(Taken, match="on another"):
        refuse_if_taken(tmp_path, patient=False)
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    monkeypatch.setattr(lock, "SILENT_S", 0.1)
    refuse_if_taken(tmp_path)
    assert capsys.readouterr().err == (
        f"snn-exp: run {tmp_path.name} was last trained by process {elsewhere.pid} on another; waiting up to 1 s for a "
        f"sign that it still is\n"
    )
    with owning(tmp_path) as mine:
        mine.check()


def test_a_living_owner_whose_clock_is_ahead_keeps_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.3)
    with owning(tmp_path):
        as_on_another_host(tmp_path, silent_for=-86400)
        with pytest.raises(Taken, match="on another"):
            refuse_if_taken(tmp_path)


def test_an_owner_elsewhere_that_beats_meanwhile_keeps_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    with owning(tmp_path):
        as_on_another_host(tmp_path, silent_for=0)
        with pytest.raises(Taken, match="on another"), owning(tmp_path):
            pass


def test_an_owner_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    with owning(tmp_path):
        as_on_another_host(tmp_path, silent_for=1000)
        beat = tmp_path / "owner" / "beat"
        before = beat.stat().st_mtime
        for _ in range(1000):
            if beat.stat().st_mtime > before + 900:
                break
            threading.Event().wait(0.01)
        else:
            pytest.fail("the owner did not beat within 10 s")


def test_of_many_that_want_what_a_dead_owner_left_one_gets_it(tmp_path: Path, elsewhere: subprocess.Popen[str]) -> None:
    elsewhere.kill()
    elsewhere.communicate()
    done = threading.Event()

    def want(_: int) -> bool:
        try:
            with owning(tmp_path):
                return done.wait(60)  # whoever has it keeps it until all have tried
        except Taken:
            return False

    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(want, i) for i in range(8)]
        while sum(t.done() for t in tries) < 7:
            assert sum(t.done() and t.result() for t in tries) == 0
        done.set()
    assert sum(t.result() for t in tries) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".gone"]


def test_an_owner_that_was_taken_over_stops_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    config = compose(["trainer.max_epochs=2", "network.width=4", "neuron=s2nn", "logger=none", "optim.batch_size=128"])
    folder = RunFolder.of(config)

    def taken_over(*_: object) -> None:
        lock._put_away(folder.path, lock._owner(folder.path)["token"])

    monkeypatch.setattr("snn_exp.training.callbacks.Clock.on_fit_start", taken_over)
    with pytest.raises(Lost, match="belongs to another process now"):
        train.run(config, echo=False)
    assert not folder.metrics_csv.exists() and not folder.checkpoints.exists() and folder.result() is None
    job.run_or_store_failure(config)
    assert folder.failure() is None


def test_a_run_whose_folder_is_removed_while_it_trains_says_so_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    words = ["trainer.max_epochs=1", "network.width=4", "neuron=s2nn", "logger=none", "optim.batch_size=128"]
    config = compose([*words, "seed=0"])
    folder = RunFolder.of(config)

    def remove(*_: object) -> None:
        if (folder.path / "owner").exists():
            shutil.rmtree(folder.path)

    monkeypatch.setattr("snn_exp.training.callbacks.Clock.on_train_start", remove)
    sentence = f"the folder {folder.path} was removed while its run trained; the same command trains it again"
    assert main.main(["train", *words]) == 1
    assert capsys.readouterr().err == f"snn-exp: {sentence}\n"
    assert main.main(["train", "-m", *words, "seed=0,1"]) == 1
    said = capsys.readouterr().err
    assert said == f"snn-exp: failed {config.label}: {sentence} (log: {folder.path / 'train.log'})\n"
    assert RunFolder.of(compose([*words, "seed=1"])).result() is not None


def test_of_two_processes_the_second_is_told_and_what_else_it_has_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    monkeypatch.setattr(train, "_train", lambda config, *_: stored.store_of(config))
    config = compose(["logger=none"])
    with owning(RunFolder.of(config).path):
        assert main.main(["train", "logger=none"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"snn-exp: run {config.run_id} is being trained by process {os.getpid()} on ")
        assert main.main(["train", "-m", "logger=none", "seed=0,1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"snn-exp: skipped {config.label}: run {config.run_id} is being trained by ")
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 1


def test_a_sweep_leaves_alone_what_another_process_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    config = compose(["trainer.max_epochs=1", "network.width=4", "neuron=s2nn", "logger=none"])
    folder = RunFolder.of(config)
    with owning(folder.path):
        job.run_or_store_failure(config)
        said = launch.why_open(config.label, folder)
        with pytest.raises(Taken):
            folder.set_aside()
    assert said.startswith("skipped s2nn") and "is being trained by process" in said
    assert folder.failure() is None and folder.result() is None
