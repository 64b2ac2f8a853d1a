"""`snn-exp predict` on pictures, folders and arrays: what it prints, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snn_exp.cli import main

CLASSES = ("dark", "light")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """An output root, the id of a run trained on pictures of two classes, and a folder of such pictures; no data set."""
    root, rng = tmp_path_factory.mktemp("predict"), np.random.default_rng(0)
    for number in range(40):
        name = CLASSES[number % 2]
        pixels = rng.integers(0, 100, (8, 8)) + 150 * (number % 2)
        file = root / "data" / name / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root / "outputs"))
        words = [
            "dataset=images",
            f"dataset.path={root / 'data'}",
            "dataset.color=gray",
            "neuron=s2nn",
            "network.width=4",
        ]
        assert main.main(["train", *words, "trainer.max_epochs=4", "logger=none", "trainer.progress=false"]) == 0
    (run,) = (path.name for path in (root / "outputs" / "runs").iterdir())
    (root / "data").rename(root / "moved")
    return root / "outputs", run, root / "moved"


@pytest.fixture
def run(made: tuple[Path, str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(made[0]))
    return made[1]


@pytest.fixture
def pictures(made: tuple[Path, str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(made[2], tmp_path / "pictures")


def predicted(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main.main(["predict", *words, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main.main(["predict", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("snn-exp: ") and said.count("\n") == 1
    return said


def test_a_folder_is_predicted_by_name_without_the_data_set(
    run: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = predicted(capsys, run, str(pictures))
    assert [each["label"] for each in found] == ["dark"] * 20 + ["light"] * 20
    assert np.mean([each["predicted"] == each["label"] for each in found]) > 0.8
    assert found[0]["sample"] == str(pictures / "dark" / "00.png")
    for each in found:
        assert 0.5 <= float(str(each["probability"])) <= 1 and int(str(each["spikes"])) > 0
        assert float(str(each["energy_pj"])) > 0
    alone = predicted(capsys, run, str(pictures / "light" / "01.png"))
    assert alone == [each for each in found if each["sample"] == str(pictures / "light" / "01.png")]


def test_an_array_gives_what_the_pictures_gave(
    run: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(pictures.rglob("*.png"))
    x = np.stack([np.asarray(Image.open(file)) for file in files])
    kept = ("predicted", "label", "probability", "spikes", "energy_pj")
    by_picture = [[each[key] for key in kept] for each in predicted(capsys, run, str(pictures))]
    for number, form in enumerate((x, x[:, None], x[..., None])):
        file = tmp_path / f"{number}.npz"
        np.savez(file, x=form, y=np.array([path.parent.name for path in files]))
        found = predicted(capsys, run, str(file))
        assert [[each[key] for key in kept] for each in found] == by_picture
        assert found[3]["sample"] == f"{file}[3]"
    np.savez(tmp_path / "strange.npz", x=x[:2], y=np.array([99, -1]))
    assert [each["label"] for each in predicted(capsys, run, str(tmp_path / "strange.npz"))] == ["99", "-1"]
    np.savez(tmp_path / "plain.npz", x=(x[:2] / 255).astype(np.float32))
    assert [each["label"] for each in predicted(capsys, run, str(tmp_path / "plain.npz"))] == [None, None]


def test_the_table_has_a_row_per_sample_and_a_line_on_all(
    run: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main.main(["predict", run, str(pictures / "dark" / "00.png"), str(pictures / "light")]) == 0
    shown = capsys.readouterr().out
    assert all(heading in shown for heading in ("sample", "class", "label", "probability", "spikes", "energy"))
    assert shown.count(".png") == 21
    last = shown.splitlines()[-1]
    assert last.startswith("21 samples, ") and "accuracy " in last and "of 21 with a known class; h45_fp32: MAC" in last


def test_another_size_is_resized_where_that_is_asked_for(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "large.png"
    Image.new("L", (20, 16), 220).save(file)
    said = refused(capsys, run, str(file))
    assert f"is 16 x 20 pixels (height x width), and run {run} reads 8 x 8; add --resize" in said
    assert predicted(capsys, run, str(file), "--resize")[0]["predicted"] == "light"


def test_what_cannot_be_read_is_refused_in_a_sentence_with_its_name(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "zz.png is not there; give pictures, a folder of them" in refused(capsys, run, str(tmp_path / "zz.png"))
    (tmp_path / "empty").mkdir()
    assert "empty holds no picture (.jpg" in refused(capsys, run, str(tmp_path / "empty"))
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png" in refused(capsys, run, str(tmp_path / "text.png"))
    Image.new("RGBA", (8, 8)).save(tmp_path / "alpha.png")
    assert "has transparency" in refused(capsys, run, str(tmp_path / "alpha.png"))
    (tmp_path / "torn.npz").write_bytes(b"PK no archive")
    assert "torn.npz is not an .npz file" in refused(capsys, run, str(tmp_path / "torn.npz"))
    np.savez(tmp_path / "other.npz", z=np.zeros((2, 8, 8)))
    assert "has no array x of samples" in refused(capsys, run, str(tmp_path / "other.npz"))
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 8, 8)))
    assert "or an empty one" in refused(capsys, run, str(tmp_path / "empty.npz"))
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    assert "holds Python objects in x" in refused(capsys, run, str(tmp_path / "objects.npz"))
    np.savez(tmp_path / "shape.npz", x=np.zeros((2, 9, 9)))
    assert "do not fit run" in refused(capsys, run, str(tmp_path / "shape.npz"))
    np.savez(tmp_path / "range.npz", x=np.full((2, 8, 8), 200.0))
    assert "are out of range" in refused(capsys, run, str(tmp_path / "range.npz"))
    np.savez(tmp_path / "labels.npz", x=np.zeros((2, 8, 8)), y=np.zeros(3))
    assert "y is not a whole number or a word for each" in refused(capsys, run, str(tmp_path / "labels.npz"))
    assert "no run" in refused(capsys, "0123456789", str(tmp_path / "range.npz"))
