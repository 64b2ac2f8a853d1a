"""What a loaded run reads: no data set, arrays of numpy and tensors, and a sentence for what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snn_exp
from snn_exp.config.compose import compose
from snn_exp.config.experiment import EnergyConfig, ExperimentConfig
from snn_exp.data.base import Dataset
from snn_exp.errors import UserError
from snn_exp.metrics.energy import with_energy
from snn_exp.runs.folder import RunFolder
from snn_exp.training import build, load, predict, train
from snn_exp.training.samples import SampleCheck

IMAGES = SampleCheck("0123456789", (1, 8, 8), None)
COLOUR = SampleCheck("0123456789", (3, 4, 6), None)
FRAMES = SampleCheck("0123456789", (2, 5, 5), 4)


def tiny(*overrides: str) -> ExperimentConfig:
    return compose(["network.width=4", "trainer.max_epochs=1", "logger=none", "dataset=digits_200", *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExperimentConfig]:
    root, config = tmp_path_factory.mktemp("outputs"), tiny("neuron=lif", "encoding.num_steps=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root))
        train.run(config, echo=False)
    return root, config


@pytest.fixture
def folder(trained: tuple[Path, ExperimentConfig], monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(trained[0]))
    return RunFolder.of(trained[1])


def test_a_run_is_loaded_without_its_data_and_tests_as_it_did(
    folder: RunFolder, trained: tuple[Path, ExperimentConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = build.build_data(trained[1]).dataset.test
    monkeypatch.setattr(Dataset, "__init__", lambda *_, **__: pytest.fail("the data were read"))
    task, result = snn_exp.load(folder.path), folder.result()
    assert result is not None
    with torch.no_grad():
        from_torch, from_numpy = task(test.samples), task(test.samples.numpy())
    assert torch.equal(from_torch, from_numpy)
    assert (from_torch.argmax(1) == test.labels).float().mean() == pytest.approx(result.metrics["test/acc"])
    assert task.class_names == ()


def test_a_run_of_a_version_that_stored_no_facts_reads_its_data(folder: RunFolder) -> None:
    path = folder.path / "result.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(before) | {"data": None}))
        task = snn_exp.load(folder.path)
        assert task(np.zeros((2, 1, 8, 8), dtype=np.float32)).shape == (2, 10)
        with pytest.raises(UserError, match="do not fit"):
            task(np.zeros((2, 8, 8), dtype=np.float32))
    finally:
        path.write_text(before)


def test_bytes_are_pixels_and_numbers_of_any_machine_are_read() -> None:
    bytes_ = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    expected = torch.from_numpy(bytes_).float() / 255
    assert torch.equal(IMAGES.checked(bytes_), expected)
    assert torch.equal(IMAGES.checked(torch.from_numpy(bytes_)), expected)
    for dtype in ("<f4", ">f4", "f8", "f2"):
        torch.testing.assert_close(IMAGES.checked((bytes_ / 255).astype(dtype)), expected, atol=1e-3, rtol=0)
    assert torch.equal(IMAGES.checked(np.asfortranarray(bytes_)), expected)
    assert IMAGES.checked(np.full((1, 1, 8, 8), 1 + 1e-7)).max() == pytest.approx(1), "rounding"
    for dtype in ("u2", "i4", "u4", "f4"):
        counts = np.full((3, 4, 2, 5, 5), 7, dtype=dtype)
        assert FRAMES.checked(counts).dtype == torch.float32 and FRAMES.checked(counts).max() == 7


REFUSED: dict[str, tuple[SampleCheck, Any, str]] = {
    "a list": (IMAGES, [[0.0]], "samples of type list cannot be read by run 0123456789, .*; type numpy.asarray"),
    "objects": (IMAGES, np.array([None]), "numpy's type object cannot be read"),
    "words": (IMAGES, np.array(["a"]), "numpy's type <U1 cannot be read"),
    "yes and no": (IMAGES, torch.ones(1, 1, 8, 8, dtype=torch.bool), "samples of torch.bool cannot be read"),
    "complex": (IMAGES, np.ones((1, 1, 8, 8), dtype=complex), "complex128 cannot be read"),
    "none": (IMAGES, np.zeros((0, 1, 8, 8)), r"samples of shape \(0, 1, 8, 8\) do not fit"),
    "one": (IMAGES, np.zeros((1, 8, 8)), r"for a single sample type x\[None\]"),
    "no channel": (
        IMAGES,
        np.zeros((5, 8, 8)),
        r"trained on \[B, 1, 8, 8\], images of 1 channel .*; type x\[:, None\]",
    ),
    "channels last": (COLOUR, np.zeros((5, 4, 6, 3)), r"its channels come last: type numpy.moveaxis\(x, -1, 1\)"),
    "larger": (COLOUR, np.zeros((5, 3, 32, 32)), "give samples of that shape, resized if need be"),
    "no time": (FRAMES, np.zeros((5, 2, 5, 5)), r"\[B, 4, 2, 5, 5\], 4 frames of 2 channels and 5 x 5 pixels"),
    "nan": (IMAGES, np.full((1, 1, 8, 8), np.nan), "hold values that are NaN or infinite"),
    "bytes as floats": (IMAGES, np.full((1, 1, 8, 8), 255.0), "pixels from 255 to 255 are out of range .*type x / 255"),
    "normalized": (IMAGES, np.full((1, 1, 8, 8), -0.4), "or leave out a normalization: the network has its own"),
    "integers": (IMAGES, np.full((1, 1, 8, 8), 200), "pixels of torch.int64 from 200 to 200 do not say what white is"),
    "negative counts": (FRAMES, np.full((1, 4, 2, 5, 5), -1), "which reads counts of events from 0 on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(name: str) -> None:
    check, given, sentence = REFUSED[name]
    with pytest.raises(UserError, match=sentence):
        check.checked(given)


def test_predictions_of_single_samples_are_those_of_the_test_and_their_costs_its_mean(
    folder: RunFolder, trained: tuple[Path, ExperimentConfig]
) -> None:
    test, result = build.build_data(trained[1]).dataset.test, folder.result()
    assert result is not None
    task, check = load.load_checked(folder)
    given = [(str(n), x, int(y)) for n, (x, y) in enumerate(zip(test.samples.numpy(), test.labels, strict=True))]
    found = list(predict.predictions(task, check, given, EnergyConfig()))
    assert [each.sample for each in found] == [str(number) for number in range(450)]
    with torch.no_grad():
        logits = task(test.samples)
    assert [each.predicted for each in found] == [str(k) for k in logits.argmax(1).tolist()]
    assert [each.probability for each in found] == pytest.approx(logits.softmax(1).amax(1).tolist(), abs=1e-5)
    assert np.mean([each.predicted == each.label for each in found]) == pytest.approx(result.metrics["test/acc"])
    energy = with_energy(result.metrics, EnergyConfig())["test/energy_pj"]
    assert np.mean([each.energy_pj for each in found]) == pytest.approx(energy, rel=1e-6)
    values = sum(layer.numel() for layer in _outputs(task, test.samples[:1]))
    rate = result.metrics["test/firing_rate"]
    assert np.mean([each.spikes for each in found]) == pytest.approx(rate * values, rel=1e-4)


def _outputs(task: Any, x: torch.Tensor) -> list[torch.Tensor]:
    from snn_exp.nn.networks import outputs_of
    from snn_exp.nn.neurons import Neuron

    with outputs_of([module for module in task.network.modules() if isinstance(module, Neuron)]) as outputs:
        task(x)
    return list(outputs.values())


def test_classes_have_their_names(folder: RunFolder) -> None:
    task, check = load.load_checked(folder)
    task.class_names = tuple("abcdefghij")
    (found,) = predict.predictions(task, check, [("x", np.zeros((1, 8, 8), np.float32), 2)], EnergyConfig())
    assert found.predicted in task.class_names and found.label == "c"
    assert dataclasses.asdict(found)["sample"] == "x"
