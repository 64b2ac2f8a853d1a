"""Time series: .ts files read, refused in a sentence, split and standardized; tiny files, written here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_exp.cli import main
from snn_exp.config import data_files, own_files, schemas, series_files
from snn_exp.config.compose import compose
from snn_exp.data.base import DATASETS, make_dataset
from snn_exp.data.series import ArchivedSeries, Series, SeriesDataset
from snn_exp.errors import UserError

Values = list[list[list[float]]]  # series, dimensions, points

HEAD = "# a comment\n@problemName Toy\n@timeStamps false\n@missing false\n@univariate {uni}\n@equalLength {equal}\n"


def write(
    path: Path, series: Values, labels: list[str], *, classes: str = "up down", equal: bool = True, extra: str = ""
) -> Path:
    """Write a file as the archives have it."""
    head = HEAD.format(uni=str(len(series[0]) == 1).lower(), equal=str(equal).lower())
    head += f"@seriesLength {len(series[0][0])}\n" if equal else ""
    lines = [":".join(",".join(f"{v:g}" for v in d) for d in s) + f":{k}" for s, k in zip(series, labels, strict=True)]
    path.write_text(f"{head}{extra}@classLabel true {classes}\n@data\n" + "\n".join(lines) + "\n")
    return path


def toy(num: int, length: int = 6, num_dimensions: int = 1, *, seed: int = 0, unequal: bool = False) -> Values:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, length + 1, num) if unequal else np.full(num, length)
    lengths[-1] = length
    return [(np.round(rng.normal(5, 3, (num_dimensions, n)), 3)).tolist() for n in lengths]


def pair(folder: Path, *, num: int = 20, **form: int | bool) -> Path:
    folder.mkdir(exist_ok=True)
    labels = ["up", "down"] * (num // 2)
    equal = not form.get("unequal")
    write(folder / "Toy_TEST.ts", toy(num, seed=1, **form), labels, equal=equal)  # type: ignore[arg-type]
    return write(folder / "Toy_TRAIN.ts", toy(num, **form), labels, equal=equal)  # type: ignore[arg-type]


def data(path: Path, num_steps: int = 6, seed: int = 0, **given: object) -> Series:
    return Series(Path(), seed, num_steps, path=str(path), **given)  # type: ignore[arg-type]


# what is read ---------------------------------------------------------------------------------------------


def test_a_file_is_split_as_the_archive_has_it_and_standardized_by_its_training_part(tmp_path: Path) -> None:
    one, other = (data(pair(tmp_path, num_dimensions=2), seed=seed) for seed in (0, 1))
    assert (len(one.train), len(one.val), len(one.test)) == (16, 4, 20)
    assert one.sample_shape == (6, 2, 1, 1) and one.num_classes == 2 and one.class_names == ("up", "down")
    assert torch.bincount(one.val.labels).tolist() == [2, 2]
    for channel in range(2):
        points = one.train.samples[:, :, channel]
        assert points.mean().item() == pytest.approx(0, abs=1e-6)
        assert points.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert one.fingerprint != other.fingerprint and one.test.labels.tolist() == [0, 1] * 10
    # undone by the statistics of the training part, the test set is the file
    read = np.array(toy(20, num_dimensions=2, seed=1)).transpose(0, 2, 1)
    undone = one.test.samples[..., 0, 0] * one._std + one._mean
    assert undone.numpy() == pytest.approx(read, abs=1e-5)


def test_a_step_shows_consecutive_points_and_one_step_the_whole_series(tmp_path: Path) -> None:
    path = pair(tmp_path, num_dimensions=2)
    by_point, in_two, whole = data(path, 6), data(path, 2), data(path, 1)
    assert (in_two.in_shape, whole.in_shape) == ((2, 1, 3), (2, 1, 6))
    flat = by_point.train.samples[..., 0, 0]  # [N, L, C]
    assert torch.equal(in_two.train.samples[:, 1, :, 0].transpose(1, 2), flat[:, 3:])
    assert torch.equal(whole.train.samples[:, 0, :, 0].transpose(1, 2), flat)


def test_shorter_series_are_filled_with_the_mean_behind_their_end(tmp_path: Path) -> None:
    path = pair(tmp_path, unequal=True)
    read = data(path)
    lengths = np.array(series_files.both(str(path)).test.lengths)
    assert len(set(lengths)) > 1
    behind = torch.from_numpy(np.arange(6) >= lengths[:, None])
    assert bool((read.test.samples[..., 0, 0, 0][behind] == 0).all())
    assert not bool((read.test.samples[..., 0, 0, 0][~behind] == 0).any())


def test_the_longest_series_of_both_files_says_the_number_of_steps(tmp_path: Path) -> None:
    pair(tmp_path, length=5, unequal=True)
    path = pair(tmp_path / "long", length=9, unequal=True)
    (tmp_path / "long" / "Toy_TRAIN.ts").write_bytes((tmp_path / "Toy_TRAIN.ts").read_bytes())
    assert compose(["dataset=series", f"dataset.path={path}"]).num_steps == 9
    assert compose(["dataset=series", f"dataset.path={path}", "neuron=s2nn"]).num_steps == 1


def test_shuffled_time_keeps_each_series_points_and_its_end_and_is_part_of_the_identity(tmp_path: Path) -> None:
    path = pair(tmp_path, unequal=True)
    plain, control, again = data(path), data(path, shuffle_time=True), data(path, shuffle_time=True)
    assert torch.equal(control.test.samples, again.test.samples)
    assert not torch.equal(control.test.samples, plain.test.samples)
    assert torch.equal(control.test.samples.sort(1).values, plain.test.samples.sort(1).values)
    assert torch.equal((control.test.samples == 0).sum(1), (plain.test.samples == 0).sum(1))
    lengths = series_files.both(str(path)).test.lengths
    assert all(bool((x[length:] == 0).all()) for x, length in zip(control.test.samples, lengths, strict=True))
    overrides = ["dataset=series", f"dataset.path={path}"]
    assert compose(overrides).run_id != compose([*overrides, "dataset.shuffle_time=true"]).run_id


def test_the_same_series_elsewhere_are_the_same_run_and_others_another(tmp_path: Path) -> None:
    one, other = pair(tmp_path / "one"), pair(tmp_path / "two")
    ids = [compose(["dataset=series", f"dataset.path={path}"]).run_id for path in (one, other)]
    assert ids[0] == ids[1]
    config = compose(["dataset=series", f"dataset.path={one}"])
    before = own_files.signature_of("series", str(other))
    test = other.with_name("Toy_TEST.ts")
    test.write_text(test.read_text().replace(":up", ":down", 1))
    assert compose(["dataset=series", f"dataset.path={other}"]).run_id != ids[0]
    assert own_files.signature_of("series", str(other)) != before
    with pytest.raises(UserError, match="holds other series than the run was made of"):
        data(other, content=str(config.dataset["content"]))


def test_a_run_on_series_trains_and_its_network_reads_negative_values(tmp_path: Path) -> None:
    from snn_exp.training.load import load

    path = pair(tmp_path, num_dimensions=2)
    overrides = ["dataset=series", f"dataset.path={path}", "network=mlp", "network.width=8", "depth.num_layers=2"]
    overrides += ["trainer.max_epochs=1", "logger=none"]
    assert main.main(["train", *overrides, "trainer.progress=false"]) == 0
    network, samples = load(compose(overrides).run_id), data(path).test.samples
    assert float(samples.min()) < 0 and network(samples).shape == (20, 2)
    with pytest.raises(UserError, match=r"series in 6 steps of 2 channels and 1 points"):
        network(samples[:, :3])


# what is refused ------------------------------------------------------------------------------------------


def changed(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def line(number: int, new: str) -> Callable[[Path], None]:
    """Replace a series, counted from 0."""

    def change(path: Path) -> None:
        head, rows = path.read_text().split("@data\n")
        lines = rows.splitlines()
        lines[number] = new
        path.write_text(f"{head}@data\n" + "\n".join(lines) + "\n")

    return change


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SIX = "1,2,3,4,5,6"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "univariate lies": (line(0, f"{SIX}:{SIX}:up"), "says @univariate true, and line 10 has 2 dimensions; correct its head"),
    "dimensions lie": (changed("@univariate true", "@dimensions 3"), "says @dimensions 3, and line 10 has 1 dimension;"),
    "dimensions are no number": (changed("@univariate true", "@dimensions many"), "says @dimensions many, which is no"),
    "length lies": (changed("@seriesLength 6", "@seriesLength 7"), "@seriesLength 7, and line 10 has 6 points"),
    "one is shorter": (line(3, "1,2:up"), "says @equalLength true and @seriesLength 6, and line 13 has 2 points"),
    "dimensions change": (line(3, f"{SIX}:{SIX}:up"), "line 13 has 2 dimensions and line 10 has 1; all series need as many"),
    "dimensions of other lengths": (line(0, f"{SIX}:1,2:up"), "dimension 1 has 6 points and dimension 2 has 2"),
    "missing": (line(2, "1,2,?,4,5,6:up"), "has missing values (line 12, dimension 1, point 3), which no network reads"),
    "nan": (line(2, "1,2,3,NaN,5,6:up"), "has missing values (line 12, dimension 1, point 4)"),
    "empty": (line(2, "1,2,3,4,5,:up"), "has missing values (line 12, dimension 1, point 6)"),
    "a word": (line(2, "1,2,x\x1b3,4,5,6:up"), "is damaged: x\\x1b3 is no number (line 12, dimension 1, point 3)"),
    "infinite": (line(2, "1,2,inf,4,5,6:up"), "is damaged: inf is no number (line 12, dimension 1, point 3)"),
    "an unknown class": (line(2, f"{SIX}:left"), "has class left on line 12, which its @classLabel does not list: up, down"),
    "no class": (line(2, SIX), "is damaged: line 12 has no class behind a colon (1,2,3,4,5,6)"),
    "times": (changed("@timeStamps false", "@timeStamps true"), "has @timeStamps true, and steps of equal length are read"),
    "a regression": (changed("@classLabel true up down", "@targetLabel true"), "has no classes to learn"),
    "one class": (changed("true up down", "true up"), "has no classes to learn: its head must say @classLabel true"),
    "a class twice": (changed("true up down", "true up up"), "lists a class twice in @classLabel: up, up"),
    "cut in its head": (lambda path: path.write_text("@problemName x\n"), "it has no line @data"),
    "no series": (lambda path: path.write_text(path.read_text().split("@data")[0] + "@data\n"), "holds no series"),
    "another format": (lambda path: path.write_text("a,b\n1,2\n"), "is not a .ts file: line 1 comes before @data"),
    "10 MB of one line": (lambda path: path.write_text("1," * 5_000_000), "is not a .ts file: line 1 comes before"),
    "10 MB of one series": (line(0, "1," * 5_000_000 + "1:up"), "has a series of 5,000,001 points on line 10, and 100,000"),
    "bytes": (lambda path: path.write_bytes(b"\xff\xfe@data"), "is not UTF-8 text (byte 0)"),
    "a pipe": (pipe, "is a named pipe, not a file"),
    "gone": (lambda path: path.unlink(), "does not exist; dataset=series reads NAME_TRAIN.ts and NAME_TEST.ts"),
}  # fmt: skip


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_refused_in_a_sentence_with_its_name(fault: str, part: str, tmp_path: Path) -> None:
    path = pair(tmp_path)
    damage, sentence = FAULTS[fault]
    damaged = tmp_path / f"Toy_{part}.ts"
    damage(damaged)
    with pytest.raises(UserError) as refused:
        read = data(path)
        assert len(read.test) == 20
    said = str(refused.value)
    assert sentence in said and str(damaged) in said and len(said) < 600 and "\n" not in said


def test_two_files_of_different_data_are_refused(tmp_path: Path) -> None:
    path = pair(tmp_path)
    write(tmp_path / "Toy_TEST.ts", toy(2), ["up", "left"], classes="up left")
    with pytest.raises(
        UserError, match=r"Toy_TEST.ts, line 11: class left is none of Toy_TRAIN.ts, which has up, down"
    ):
        data(path)
    write(tmp_path / "Toy_TEST.ts", toy(2, num_dimensions=2), ["up", "down"])
    with pytest.raises(UserError, match=r"has series of 2 dimensions, and Toy_TRAIN.ts of 1; both files need the same"):
        data(path)
    write(tmp_path / "Toy_TEST.ts", toy(2), ["up", "down"], classes="down up")  # in another order
    assert data(path).test.labels.tolist() == [0, 1]


def test_one_long_series_among_many_is_refused_before_all_are_filled_up_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_files, "MOST_VALUES", 1000)
    path = pair(tmp_path, length=60, unequal=True)
    with pytest.raises(
        UserError, match=r"would be 1,200 values once its 20 series are filled up to the longest, 60 points"
    ):
        data(path)


def test_constant_series_have_nothing_to_learn_and_a_constant_channel_is_left_at_0(tmp_path: Path) -> None:
    path = pair(tmp_path)
    write(path, [[[3.0] * 6]] * 20, ["up", "down"] * 10)
    with pytest.raises(
        UserError, match="has nothing to learn: each value of its 16 training series is 3 in dimension 1"
    ):
        data(path)
    path = pair(tmp_path, num_dimensions=2)
    write(path, [[one[0], [0.1] * 6] for one in toy(20)], ["up", "down"] * 10)
    train = data(path).train.samples
    assert float(train[:, :, 1].abs().max()) < 1e-6 and float(train[:, :, 0].std()) == pytest.approx(1, abs=0.01)


REFUSED = {
    "": "reads a file NAME_TRAIN.ts and its NAME_TEST.ts, and dataset.path is not given; type dataset.path=NAME_TRAIN.ts",
    "Toy_TEST.ts": "does not end in _TRAIN.ts, and dataset=series reads a file NAME_TRAIN.ts and its NAME_TEST.ts; type "
    "dataset.path=",
    "Toy.csv": "does not end in _TRAIN.ts",
    "No_TRAIN.ts": "does not exist",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_path_that_is_no_training_file_is_refused(name: str, tmp_path: Path) -> None:
    pair(tmp_path)
    with pytest.raises(UserError) as refused:
        compose(["dataset=series", f"dataset.path={tmp_path / name if name else ''}"])
    assert REFUSED[name] in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("encoding.num_steps=7", "encoding.num_steps=7 leaves nothing for the last 1 steps, since a series has 6 points"),
        ("encoding.num_steps=4", "encoding.num_steps=4 leaves nothing for the last 1 steps, since a series has 6 points and "
         "each step 2; type encoding.num_steps=3"),
        ("encoding=rate", "the samples of dataset=series have time already"),
        ("augment=shift", "augment=shift moves or changes pixels, and the samples of dataset=series are series"),
        ("dataset.val_fraction=0.01", "each of the 2 classes needs one; type a larger dataset.val_fraction"),
        ("dataset.num_train=100", "dataset.num_train=100 is more than 14"),
    ],
)  # fmt: skip
def test_a_config_that_series_cannot_have_is_refused_before_training(
    overrides: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        compose(["dataset=series", f"dataset.path={pair(tmp_path)}", overrides])
    assert sentence in str(refused.value)


def test_series_longer_than_there_may_be_steps_need_windows(tmp_path: Path) -> None:
    labels = ["up", "down"] * 2
    for part in ("TRAIN", "TEST"):
        path = write(tmp_path / f"Long_{part}.ts", toy(4, length=10_001), labels)
    path = tmp_path / "Long_TRAIN.ts"
    overrides = ["dataset=series", f"dataset.path={path}", "dataset.val_fraction=0.5"]
    with pytest.raises(UserError, match=r"series of 10,001 points are more than 10,000 steps.* 101 points"):
        compose(overrides)
    assert compose([*overrides, "encoding.num_steps=100"]).num_steps == 100


# the archives' own ----------------------------------------------------------------------------------------

ARCHIVED = [name for name in DATASETS if issubclass(DATASETS[name], ArchivedSeries)]


@pytest.mark.parametrize("name", ARCHIVED)
def test_a_data_set_that_is_missing_or_changed_says_which_command_brings_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_DATA", str(tmp_path))
    monkeypatch.setattr(data_files, "CHECKOUT", tmp_path / "no checkout")
    cls = DATASETS[name]
    assert not cls.is_present(tmp_path)
    with pytest.raises(
        UserError, match=rf"dataset={name} is not in {tmp_path}.*type pip install --no-deps aeon, which"
    ):
        cls.prepare(tmp_path)
    assert main.main(["data", "check", name]) == 2
    assert "type pip install --no-deps aeon, or set SNN_EXP_DATA" in capsys.readouterr().err
    for file in cls.checks:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("@data")
    with pytest.raises(UserError, match=rf"dataset={name} is damaged: .*_TRAIN.ts is truncated or has been changed"):
        make_dataset(compose([f"dataset={name}"]).dataset, tmp_path, 0, cls.image_shape[2])


def test_in_a_checkout_make_brings_the_archives_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(data_files, "CHECKOUT", tmp_path)
    assert data_files.wheel_command("aeon") == "make series"
    folder = DATASETS["gunpoint"].system_folder
    assert tmp_path / ".series" / folder in data_files.places(folder, tmp_path / "root")


def test_the_wheel_is_found_on_the_path_of_python_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aeon").mkdir()
    (tmp_path / "aeon" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = DATASETS["gunpoint"].system_folder
    assert data_files.places(folder, Path("root"))[-1] == tmp_path / folder


def test_what_the_menu_says_of_series_is_what_their_files_say() -> None:
    for name in ARCHIVED:
        traits = schemas.load()["dataset"][name].traits
        assert traits["is_series"] and traits["has_time"] and tuple(traits["image_shape"]) == DATASETS[name].image_shape
        assert compose([f"dataset={name}"]).num_steps == traits["image_shape"][2]
        assert compose([f"dataset={name}", "neuron=s2nn"]).num_steps == 1
    assert {name for name in DATASETS if issubclass(DATASETS[name], SeriesDataset)} == {"series", *ARCHIVED}
