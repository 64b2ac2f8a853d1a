"""What was typed to train finds the run, and what was asked for in vain is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_exp.cli import main
from snn_exp.errors import UserError
from snn_exp.registry import Scalar
from snn_exp.runs.filters import chosen, read, same, value_text
from snn_exp.runs.store import selected, stored_runs
from tests.stored import store


def found(*filters: str) -> int:
    return len(stored_runs(filters))


@pytest.mark.parametrize(
    "typed",
    [
        "neuron.tau=2", "neuron.tau=2.0", "neuron.tau=2e0", "+neuron.tau=2", "neuron.tau=2, 3.0", "'neuron.tau= 2'",
        "neuron.detach_reset=false", "neuron.detach_reset=False", "optim.lr=1e-3", "optim.lr=0.001",
        "optim.lr=0.1, 1e-3", "depth=d20", "depth=20", "depth.num_layers=20", "neuron.name=lif", "seed=range(4)",
        "seed=3", "seed= 1, 3", "method=lif_bn", "surrogate=auto", "synapse=auto", "encoding.num_steps=null",
        "encoding.num_steps=4", "experiment=null", "teacher=null", "logger=none", "trainer=smoke", "energy=h45_fp32",
        "trainer.num_threads=1", "optim.rate_penalty=0", "norm=bn,psp", "state=done", "network.readout=null",
    ],
)  # fmt: skip
def test_what_was_typed_to_train_finds_the_run(typed: str) -> None:
    store("neuron=lif", "optim.lr=1e-3", "neuron.detach_reset=false", "depth=20", "seed=3", "trainer=smoke")
    assert found(typed.strip("'")) == 1


@pytest.mark.parametrize(
    ("typed", "note"),
    [
        ("neuron.tau=3", "no run has neuron.tau=3.0; there are 1.5, 2.0"),
        ("neuron.tau=2,3", "no run has neuron.tau=3.0; there are 1.5, 2.0"),
        ("norm=psp", "no run has norm=psp; there are bn"),
        ("depth=20", "no run has depth.num_layers=20; there are 8"),
        ("neuron.refractory=slayer", "no run has neuron.refractory=slayer; it belongs to neuron=srm"),
        ("state=failed", "no run has state=failed; there are done"),
        ("method=relu_bn", "no run has method=relu_bn; there are lif_bn"),
        ("experiment=quick", "no run has experiment=quick; there are null"),
        ("seed=range(3)", "no run has seed=2; there are 0, 1"),
        ("surrogate=triangle", "no run has surrogate=triangle; there are"),
        ("neuron.detach_reset=true", None),
    ],
)
def test_a_value_that_no_run_has_is_named(typed: str, note: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    store("neuron.tau=2", "neuron.detach_reset=true")
    store("neuron.tau=1.5", "seed=1", "neuron.detach_reset=true")
    notes = selected([typed]).notes
    assert [n.startswith(note) for n in notes] == [True] if note else notes == []
    assert main.main(["runs", typed]) == 0
    assert (note or "CPU s") in capsys.readouterr().out


def test_what_no_run_has_beside_the_other_filters_is_named() -> None:
    store("neuron=lif", "norm=psp")
    store("neuron=plif", "norm=bn")
    assert selected(["neuron=lif", "norm=bn,psp"]).notes == ["no run with neuron=lif has norm=bn"]
    assert selected(["neuron=lif", "norm=bn"]).notes == ["no run has neuron=lif and norm=bn together"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("lif", "'lif' is not a valid filter; type key=value"),
        ("neuron=lfi", "There is no neuron 'lfi'; .*did you mean lif"),
        ("neuron.tua=3", "There is no key 'neuron.tua'; .*did you mean neuron.tau.? Type neuron.tau=3"),
        ("neuron.tau=fast", "neuron.tau=fast is not allowed: neuron.tau must be a float > 1"),
        ("neuron.tau=0.5", "neuron.tau=0.5 is not allowed"),
        ("neuron.detach_reset='true'", "must be a bool"),
        ("seed=-1", "seed=-1 is not a seed"),
        ("seed=range(1000000000)", "a sweep may have 100,000 runs"),
        ("seed=range(0,1,0)", "never ends"),
        ("neuron=glob(*)", "names no values"),
        ("hydra/launcher=joblib", "leave it out"),
        ("state=crashed", "There is no state 'crashed'"),
        ("teacher='a=\"'", "cannot be read"),
        ("method=relu", "There is no method 'relu'; .*Type method=relu_bn"),
    ],
)
def test_what_no_run_can_have_is_refused_in_a_sentence(typed: str, sentence: str) -> None:
    store()
    with pytest.raises(UserError, match=sentence):
        stored_runs([typed])


def test_a_teacher_is_found_by_its_id_and_by_overrides() -> None:
    teacher = store("method=relu_bn")
    student = store("method=lif_bn", f"teacher={teacher.path.name}")
    assert [run.name for run in stored_runs([f"teacher={teacher.path.name}"])] == [student.path.name]
    assert found("teacher='method=relu_bn depth=d8'") == 1
    assert found("teacher='method=relu_bn depth=d20'") == 0


def test_an_experiment_and_a_method_are_found_and_make_lines(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        for method, acc in (("relu_bn", 0.99), ("lif_bn", 0.97)):
            folder = store(
                f"method={method}", f"seed={seed}", acc=acc + seed / 1000 + (method == "lif_bn") * seed / 500
            )
            for name in ("result.json", "manifest.json"):
                content = json.loads((folder.path / name).read_text())
                content["config"]["experiment"] = "quick"
                (folder.path / name).write_text(json.dumps(content))
    store("neuron=plif", "norm=none")
    assert found("experiment=quick") == 4
    assert (
        main.main(["report", "experiment=quick", "--by", "method", "--versus", "method=lif_bn", "--format", "csv"]) == 0
    )
    said = capsys.readouterr().out
    assert "relu_bn has the highest mean" in said and "difference to lif_bn" in said
    assert main.main(["report", "method=relu_bn,lif_bn", "--versus", "method=relu_bn", "--format", "csv"]) == 0
    assert "difference to relu_bn" in capsys.readouterr().out


def test_a_report_names_what_it_was_asked_for_in_vain(capsys: pytest.CaptureFixture[str]) -> None:
    store("neuron.tau=2")
    assert main.main(["report", "neuron.tau=2,3.0", "--format", "csv"]) == 0
    assert "no run has neuron.tau=3.0; there are 2.0" in capsys.readouterr().out
    assert main.main(["report", "neuron.tau=3"]) == 2
    assert "no run has neuron.tau=3.0; there are 2.0" in capsys.readouterr().err


def test_versus_and_by_take_values_and_keys_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1, 2):
        store("neuron.tau=2", f"seed={seed}", acc=0.9 + seed / 100)
        store("neuron.tau=3", f"seed={seed}", acc=0.92 + seed / 70)
    assert (
        main.main(["report", "neuron=lif", "--by", "neuron, depth", "--versus", "neuron.tau=2", "--format", "csv"]) == 0
    )
    assert "neuron.tau=3.0" in capsys.readouterr().out
    assert main.main(["report", "neuron=lif", "--versus", "neuron.tau=2,3"]) == 2
    assert "names several values" in capsys.readouterr().err
    assert main.main(["report", "neuron=lif", "--by", "neuron.refractory"]) == 2
    assert "no run has neuron.refractory, which belongs to neuron=srm" in capsys.readouterr().err


def test_runs_that_differ_in_more_than_their_names_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    store("optim.lr=0.02")
    store("optim.lr=0.01")
    assert main.main(["runs"]) == 0
    said = capsys.readouterr().out
    assert "optim.lr=0.02" in said and "optim.lr=0.01" in said


scalars = st.none() | st.booleans() | st.integers(0, 9) | st.floats(2, 9) | st.sampled_from(["bn", "none", "a b"])


@settings(deadline=None, max_examples=50)
@given(value=scalars, other=scalars)
def test_two_values_are_one_if_they_are_typed_alike_but_for_the_form_of_a_number(value: Scalar, other: Scalar) -> None:
    alike = value_text(value) == value_text(other)
    number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (value, other))
    assert same(value, other) == (value == other if number else alike)


@settings(deadline=None, max_examples=50)
@given(tau=st.floats(1.001, 1e6))
def test_a_number_finds_itself_in_any_form(tau: float) -> None:
    stored = chosen({"neuron": {"name": "lif", "tau": tau}})
    for form in (repr(tau), f"{tau:.17e}"):
        (condition,) = read(f"neuron.tau={form}").conditions
        assert condition.demands == {"neuron.tau": stored["neuron.tau"]}
