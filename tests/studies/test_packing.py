"""A packed run is the run, elsewhere; and a file that anybody sent puts nothing anywhere unless all of it is sound."""

from __future__ import annotations

import json
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from snn_exp.cli.main import main
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.studies import packing
from snn_exp.training.load import load
from tests.finished import Finished


@pytest.fixture
def packed(finished: Finished, tmp_path: Path) -> tuple[str, Path]:
    """A run's id and the file with it; the run itself is gone."""
    _, result = finished()
    path = tmp_path / "sent.zip"
    assert main(["pack", result.run_id, "--to", str(path), "--licence", "mit"]) == 0
    shutil.rmtree(output_root() / "runs")
    return result.run_id, path


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    before = sorted(str(p) for p in path.parent.rglob("*") if "out" not in p.parts)
    assert main(["unpack", str(path)]) == 2
    assert not list(output_root().glob("runs/*")) and not list(output_root().glob(".unpacking*"))
    assert sorted(str(p) for p in path.parent.rglob("*") if "out" not in p.parts) == before, "nothing outside either"
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_a_run_comes_back_as_it_was(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, result = finished()
    folder = RunFolder(output_root() / "runs" / result.run_id)
    x = torch.rand(3, 1, 8, 8)
    logits, content = load(result.run_id)(x), {name: (folder.path / name).read_bytes() for name in packing.OF_RUN}
    assert main(["pack", result.run_id]) == 0
    path = output_root() / "packed" / f"{result.run_id}.zip"
    first = path.read_bytes()
    assert main(["pack", result.run_id]) == 0 and path.read_bytes() == first, "the same content is the same file"
    assert main(["unpack", str(path)]) == 0
    assert f"run {result.run_id} is here already and stays as it is" in capsys.readouterr().out
    shutil.rmtree(folder.path)
    assert main(["unpack", str(path)]) == 0
    assert {name: (folder.path / name).read_bytes() for name in packing.OF_RUN} == content
    assert torch.equal(load(result.run_id)(x), logits)


def test_the_model_card_has_the_form_of_hugging_face(packed: tuple[str, Path], finished: Finished) -> None:
    _, path = packed
    _, result = finished()
    card = entries(path)["README.md"].decode()
    _, head, page = card.split("---\n", 2)
    said = yaml.safe_load(head)
    assert said["license"] == "mit" and said["library_name"] == "snn_exp" and said["datasets"] == ["digits"]
    (model,) = said["model-index"]
    (found,) = model["results"]
    assert found["task"]["type"] == said["pipeline_tag"] == "image-classification"
    values = {each["type"]: each["value"] for each in found["metrics"]}
    assert values["accuracy"] == pytest.approx(result.metrics["test/acc"], abs=1e-6) and values["energy_pj"] > 0
    for fact in ("| Data | digits", "| Split |", "| Seed | 0", "| Energy |", result.split_fingerprint[:8]):
        assert fact in page
    assert yaml.safe_load(page.split("```yaml\n")[1].split("```")[0]) == json.loads(json.dumps(result.config))


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes], str], object], str]] = {
    "a path outside": (lambda c, run: c.update({"../../evil.txt": b"x"}), "evil.txt is no file of a run or a study"),
    "an absolute path": (lambda c, run: c.update({"/tmp/evil": b"x"}), "/tmp/evil is no file of a run"),
    "a pickle": (lambda c, run: c.update({f"runs/{run}/best.ckpt": pickle.dumps(1)}), "best.ckpt is no file of a run"),
    "a pickle as weights": (
        lambda c, run: c.update({f"runs/{run}/weights.safetensors": pickle.dumps([1])}), "are damaged",
    ),
    "no weights": (lambda c, run: c.pop(f"runs/{run}/weights.safetensors"), "weights.safetensors is missing"),
    "another run's name": (
        lambda c, run: [c.update({name.replace(run, "0123456789"): c.pop(name)}) for name in list(c) if run in name],
        "is refused: run 0123456789 in it",
    ),
    "another config": (
        lambda c, run: c.update({
            f"runs/{run}/result.json": c[f"runs/{run}/result.json"].replace(b'"seed": 0', b'"seed": 1'),
        }), "is refused: run",
    ),
    "another split in the manifest": (
        lambda c, run: c.update({f"runs/{run}/manifest.json": json.dumps({
            **json.loads(c[f"runs/{run}/manifest.json"]), "split_fingerprint": "0" * 16}).encode()}),
        "manifest.json says that it was trained on split 00000000, and result.json on ",
    ),
    "another config in the manifest": (
        lambda c, run: c.update({
            f"runs/{run}/manifest.json": c[f"runs/{run}/manifest.json"].replace(b'"seed": 0', b'"seed": 7'),
        }), "is stored with a different seed: 7 and not 0; ask for the file again",
    ),
    "weights that are NaN": (
        lambda c, run: c.update({f"runs/{run}/weights.safetensors": save(
            {n: t * torch.nan for n, t in load_tensors(c[f"runs/{run}/weights.safetensors"]).items() if t.is_floating_point()}
        )}), "the weights weights.safetensors are damaged (",
    ),
    "broken JSON": (lambda c, run: c.update({f"runs/{run}/result.json": b"{"}), "result.json"),
    "nothing": (lambda c, run: c.clear(), "holds no run and no study"),
    "a bomb": (lambda c, run: c.update({f"runs/{run}/metrics.csv": bytes(17 * 2**20)}), "metrics.csv in it has more than 16 MiB"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_a_sound_run_is_refused_whole(
    case: str, packed: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, path = packed
    change, sentence = HOSTILE[case]
    content = entries(path)
    change(content, run_id)
    write(path, content)
    assert sentence in refused(path, capsys)


def test_a_link_and_a_name_twice_are_refused(packed: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run_id, path = packed
    content = entries(path)
    link = zipfile.ZipInfo(f"runs/{run_id}/metrics.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "metrics.csv in it is a link, or no plain file" in refused(path, capsys)
    write(path, content)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.md", "again")
    assert "README.md is in it twice" in refused(path, capsys)


@pytest.mark.parametrize("size", [0, 100, 2000, -200])
def test_a_torn_file_and_no_archive_are_refused(
    size: int, packed: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = packed
    path.write_bytes(path.read_bytes()[:size])
    assert "is not a file that snn-exp pack wrote, or is damaged" in refused(path, capsys)


def test_a_damaged_byte_is_found(packed: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run_id, path = packed
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo(f"runs/{run_id}/weights.safetensors").header_offset + 2000
    content[at] ^= 255
    path.write_bytes(content)
    assert "is damaged" in refused(path, capsys)


def test_a_run_that_is_here_already_is_compared(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, result = finished()
    folder, path = RunFolder(output_root() / "runs" / result.run_id), tmp_path / "sent.zip"
    assert main(["pack", result.run_id, "--to", str(path)]) == 0
    stored = {name: (folder.path / name).read_text() for name in ("manifest.json", "result.json")}

    def said(change: Callable[[str], str]) -> tuple[int, str]:
        for name, text in stored.items():
            (folder.path / name).write_text(change(text))
        capsys.readouterr()
        return main(["unpack", str(path)]), "".join(capsys.readouterr())

    code, text = said(lambda text: text.replace(result.split_fingerprint, "0" * 16))
    assert code == 2 and f"trained on split {result.split_fingerprint[:8]}, and the run that is here" in text
    assert "was trained on split 00000000" in text and "--rerun" in text
    acc = result.metrics["test/acc"]
    code, text = said(lambda text: text.replace(f'"test/acc": {acc}', '"test/acc": 0.5'))
    assert code == 0 and f"stays as it is (in the file test/acc is {acc}, here it is 0.5)" in text
    code, text = said(lambda text: text[:-20])
    assert code == 2 and f"run {result.run_id} is damaged" in text
    (folder.path / "result.json").unlink()
    (folder.path / "manifest.json").write_text(stored["manifest.json"])
    assert main(["unpack", str(path)]) == 2
    assert "is here already and not finished" in capsys.readouterr().err


def test_what_is_in_the_way_of_a_packed_file_is_named(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    _, result = finished()
    assert main(["pack", result.run_id, "--to", "/dev/null/x.zip"]) == 2
    assert "snn-exp: /dev/null is in the way (File exists); move it" in capsys.readouterr().err


def test_a_study_comes_back_with_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snn_exp.studies.spec import studies_root

    path = tmp_path / "precision.zip"
    stored = (studies_root() / "precision" / "results.jsonl").read_bytes()
    assert main(["pack", "precision", "--to", str(path)]) == 0
    assert "study precision with 0 runs; 40 have no weights" in capsys.readouterr().out
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path / "elsewhere"))
    assert main(["unpack", str(path)]) == 0
    back = tmp_path / "elsewhere" / "precision"
    assert (back / "results.jsonl").read_bytes() == stored and (back / "figures").exists()
    content = entries(path)
    shutil.rmtree(back)
    content["studies/precision/study.yaml"] = b"question: !!python/object/apply:os.system ['true']\n"
    write(path, content)
    assert "study precision in it" in refused(path, capsys) and not back.exists()


def test_a_run_without_weights_and_a_bad_licence_are_refused(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    _, result = finished()
    assert main(["pack", result.run_id, "--licence", "my own\nkey: 1"]) == 2
    assert "is no identifier of a licence" in capsys.readouterr().err
    (output_root() / "runs" / result.run_id / "weights.safetensors").unlink()
    assert main(["pack", result.run_id]) == 2
    assert f"run {result.run_id} cannot be packed: weights.safetensors is missing" in capsys.readouterr().err
    assert not (output_root() / "packed").exists()
    (output_root() / "runs" / result.run_id / "result.json").unlink()
    assert main(["pack", result.run_id]) == 2
    assert "is not finished" in capsys.readouterr().err
