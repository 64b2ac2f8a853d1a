"""What is said of an argument that is no override: where it is wrong, what to type, and no word of the parser's."""

from __future__ import annotations

import re
import shlex
import time

import pytest

from snn_exp.cli import main
from snn_exp.config.compose import read_command
from snn_exp.config.override_faults import LOOKS_LIKE
from snn_exp.config.overrides import MAX_ARGUMENTS, num_values, parse_overrides, parsed_override
from snn_exp.errors import UserError

SENTENCES = {
    "": f"an argument is empty; leave it out: {LOOKS_LIKE}",
    "=": f"= has no key before the =; {LOOKS_LIKE}",
    "=x": f"=x has no key before the =; {LOOKS_LIKE}",
    "~": f"~ names nothing; {LOOKS_LIKE}",
    "a": f"a has no =; {LOOKS_LIKE}",
    "lif": "lif has no =; type neuron=lif",
    "neuron": "neuron has no =; type neuron=clif, say, or snn-exp options neuron to see what there is",
    "neuron lif": "neuron lif has no =; type neuron=lif",
    "neuron:lif": "neuron:lif has no =; type neuron=lif",
    "neuron==lif": "neuron==lif has two =; type neuron=lif",
    " seed=1": " seed=1:  seed is not a key; type seed=1",
    "seed =1": "seed =1: seed  is not a key; type seed=1",
    "neuron=lif,": "neuron=lif, ends in a ,; take it out: neuron=lif",
    "neuron=,lif": "neuron=,lif has nothing before a , (character 8); take it out, or write '' for an empty text",
    "seed=[a,,b]": "seed=[a,,b] has nothing before a , (character 9); take it out, or write '' for an empty text",
    "seed=range(5": "seed=range(5 has a ( (character 11) that no ) closes; close it, or type \"seed='range(5'\" if it is "
    f"text; {LOOKS_LIKE}",
    "seed=[1,2": "seed=[1,2 has a [ (character 6) that no ] closes; close it, or type \"seed='[1,2'\" if it is text; "
    f"{LOOKS_LIKE}",
    "seed=1)": "seed=1) has a ) (character 7) that nothing opens; take it out, or type \"seed='1)'\"",
    "seed=(1)": "seed=(1) has a ( that no function stands before (character 6), which needs quotes; type \"seed='(1)'\"",
    "seed={a}": "seed={a} has braces that hold no KEY: VALUE; write {a: 1, b: 2}, or type \"seed='{a}'\" if it is text",
    "seed=range(0,1,0)": "seed=range(0,1,0) never ends; a range has two ends and a step other than 0, such as range(0,1,0.1)",
    "seed=range(nan)": "seed=range(nan) never ends; a range has two ends and a step other than 0, such as range(0,1,0.1)",
    "seed=range(5,0)": "seed=range(5,0) names no value: a range goes up, such as range(0,5); type snn-exp options to see "
    "what there is",
    "seed=range(a)": "seed=range(a) is not a valid use of range; type range(STOP), range(START,STOP) or range(START,STOP,STEP), "
    "of numbers, such as seed=range(5)",
    "seed=range(range(3))": "seed=range(range(3)) is not a valid use of range; type range(STOP), range(START,STOP) or "
    "range(START,STOP,STEP), of numbers, such as seed=range(5)",
    "seed=choice()": "seed=choice() is not a valid use of choice; type choice(A,B,...), of values, such as "
    "neuron=choice(lif,plif)",
    "seed=extend_list(1)": "seed=extend_list(1): there is no function extend_list; allowed: range, choice, interval, glob, "
    "sort, shuffle, tag, int, float, bool, str; quote the value if it is text",
    "seed=rang(5)": "seed=rang(5): there is no function rang; allowed: range, choice, interval, glob, sort, shuffle, tag, "
    "int, float, bool, str; did you mean range? Type range(STOP), range(START,STOP) or range(START,STOP,STEP), of numbers, "
    "such as seed=range(5)",
    "logger.project=a=b": "logger.project=a=b has a = in its value (character 17), which needs quotes; type "
    "\"logger.project='a=b'\"",
    "logger.project=a;b": "logger.project=a;b has a ; in its value (character 17), which needs quotes; type "
    "\"logger.project='a;b'\"",
    "logger.project=a{b}": "logger.project=a{b} has a { within a word (character 17), which needs quotes; type "
    "\"logger.project='a{b}'\"",
    "logger.project=$x;": "logger.project=$x; has a ; in its value (character 18), which needs quotes; type "
    "'logger.project=\"$x;\"'",
    "logger.project=\u00e9": "logger.project=\u00e9 has a \u00e9 in its value (character 16), which needs quotes; type "
    "\"logger.project='\u00e9'\"",
    "teacher='a": "teacher='a has a ' (character 9) that is not closed; close it, or type 'teacher=\"'\"'\"'a\"'",
    "teacher='a'b": "teacher='a'b continues directly after a quoted text (character 12); quote all of the value: type "
    "'teacher=\"'\"'\"'a'\"'\"'b\"'",
    "seed=${": "seed=${ has a ${ (character 6) that no } closes; name a key in it, such as ${seed}",
    "seed=${now:x}": "an argument has seed=${now:x}: an interpolation names a key, such as ${seed}, or an environment "
    "variable, such as ${oc.env:HOME}; write the value itself",
    "seed=\udcff": "seed=\\udcff has a byte that is not UTF-8 (character 6); type it in a terminal that writes UTF-8",
    "seed=a\nb": "seed=a\\nb has a character that cannot be shown (character 7); a value is one line of text",
    "seed='\x1b[31m'": "seed='\\x1b[31m' has a character that cannot be shown (character 7); a value is one line of text",
    "seed=" + "9" * 5_000: f"seed={'9' * 52}... has a number of 5,000 digits; none here takes more than 100",
    "seed=" + "a" * 1_000_000: f"seed={'a' * 52}... has 1,000,005 characters, and an argument may have 20,000; a range "
    "names many values at once: seed=range(1000)",
    "seed=" + "[" * 500: f"seed={'[' * 52}... has brackets nested more than 20 deep; quote it if it is text",
    "seed=range(1000000000)": "seed=range(1000000000) has 1,000,000,000 values, and a sweep may have 100,000 runs; name "
    "fewer",
    "optim.lr=range(0,1,1e-12)": "optim.lr=range(0,1,1e-12) has 1,000,000,000,000 values, and a sweep may have 100,000 runs; "
    "name fewer",
    "seed=shuffle(range(1000000000))": "seed=shuffle(range(1000000000)) has 1,000,000,000 values, and a sweep may have "
    "100,000 runs; name fewer",
}  # fmt: skip


@pytest.mark.parametrize("argument", SENTENCES, ids=[repr(a[:40]).strip("'") for a in SENTENCES])
def test_an_argument_that_cannot_be_read_is_a_sentence(argument: str) -> None:
    began = time.process_time()
    with pytest.raises(UserError) as refusal:
        parse_overrides([argument])
    assert str(refusal.value) == SENTENCES[argument]
    assert time.process_time() - began < 2
    assert not re.search(
        r"[A-Z]\w*(Exception|Error)|mismatched|extraneous|token|viable|expecting|EOF", str(refusal.value)
    )


QUOTED = {given: text for given, text in SENTENCES.items() if "needs quotes; type " in text}


@pytest.mark.parametrize("given", QUOTED)
def test_what_it_says_to_type_comes_through_the_shell_and_can_be_read(given: str) -> None:
    (argument,) = shlex.split(QUOTED[given].partition("needs quotes; type ")[2])
    assert f"{parse_overrides([argument])[0].value()}" == given.partition("=")[2]


COMPOSED = {
    "neuron=[lif,plif]": "neuron=[lif,plif] is a list, and neuron is one of its options; to run each, type -m neuron=lif,plif",
    "neuron@x=lif": "neuron@x=lif would move neuron to where it is not read; type neuron=lif",
    "neuron=glob(zz*)": "neuron=glob(zz*) names no value: no option matches; type snn-exp options to see what there is",
    "+foo=1": "There is no group or key 'foo'; allowed: augment, dataset, depth, encoding, energy, experiment, init, init_from, "
    "logger, method, network, neuron, norm, optim, residual, seed, surrogate, synapse, teacher, trainer, weight_norm, weight_quant",
    "hydra.foo=1": "the config cannot be composed: there is no key hydra.foo",
    "hydra/help=1.5": "hydra/help=1.5 is not valid for Hydra; type hydra/launcher=joblib hydra.launcher.n_jobs=2, say",
    "hydra={}": "hydra={} is not valid for Hydra; type hydra/launcher=joblib hydra.launcher.n_jobs=2, say",
    "+hydra.sweeper.params.seed=$": "+hydra.sweeper.params.seed=$ adds to the axes of an experiment, and none is chosen "
    "that has some; type the axis itself, such as -m seed=0,1,2",
    "hydra.launcher.n_jobs=1,2": "hydra.launcher.n_jobs=1,2 is a sweep, and a sweep has one hydra.launcher.n_jobs; give one "
    "value",
    "teacher='a=\"'": "teacher='a=\"' has a quote that is not closed; type overrides with spaces between, such as "
    "\"teacher='method=relu_bn depth=d20'\"",
    "dataset.split_seed=${oc.env:NOT_SET}": "snn-exp: dataset.split_seed names the environment variable NOT_SET, which is not set; set it, "
    "or type ${oc.env:NOT_SET,DEFAULT}\n",
    "neuron.tau=${TAU}": "snn-exp: neuron.tau names TAU, which is no key; name one, such as ${seed}, or a variable, such as ${oc.env:TAU}\n",
    "neuron.tau=${..........x}": "snn-exp: neuron.tau names x, which is no key; name one, such as ${seed}, or a variable, such as ",
    "neuron.tau=${neuron.tau}": "snn-exp: neuron.tau names itself; write the value\n",
    "--optim.lr": "--optim.lr is not a flag but an override, which has no dashes and a =; type optim.lr=...",
    "--neuron": "--neuron is not a flag but an override, which has no dashes and a =; type neuron=...",
    "--seed": "--seed is not a flag but an override, which has no dashes and a =; type seed=...",
    "--optim.lr=0.01": "--optim.lr=0.01 is not a flag but an override, which has no dashes; type optim.lr=0.01",
    "-optim.lr=0.01": "-optim.lr=0.01 is not a flag but an override, which has no dashes; type optim.lr=0.01",
    "--rerum": "There is no flag '--rerum'; allowed: --config-dir, --help, --multirun, --rerun, --skip-refused, -cd, -h, -m; "
    "did you mean --rerun? Type snn-exp train --rerun",
}  # fmt: skip


@pytest.mark.parametrize("argument", COMPOSED)
def test_what_is_read_but_fits_nowhere_is_a_sentence(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", argument]) == 2
    assert COMPOSED[argument] in capsys.readouterr().err


def test_overrides_of_a_teacher_need_no_second_pair_of_quotes() -> None:
    assert parsed_override("teacher=method=relu_bn depth=d20").value() == "method=relu_bn depth=d20"
    assert parsed_override("teacher='method=relu_bn depth=d20'").value() == "method=relu_bn depth=d20"


@pytest.mark.parametrize(
    ("line", "number"),
    [("seed=range(5)", 5), ("seed=range(1,10,3)", 3), ("seed=range(0,1,0.1)", 10), ("seed=range(5,0,-2)", 3),
     ("seed=sort(range(3))", 3), ("seed=shuffle(range(7))", 7), ("seed=1,2,3", 3), ("seed=choice(1,2)", 2), ("seed=1", 1),
     ("seed=[1,2]", 1), ("seed=interval(0,1)", 1), ("seed=range(-3,3)", 6)],
)  # fmt: skip
def test_the_values_of_a_sweep_are_counted_as_they_are_expanded(line: str, number: int) -> None:
    override = parsed_override(line)
    assert num_values(override) == number
    if override.is_discrete_sweep():
        assert len(list(override.sweep_iterator())) == number


def test_a_sweep_of_too_many_runs_is_refused_before_it_is_expanded() -> None:
    began = time.process_time()
    with pytest.raises(UserError) as refusal:
        read_command(["seed=range(1000)", "dataset.split_seed=range(1000)", "neuron=lif,plif"], multirun=True)
    assert str(refusal.value) == (
        "this is a sweep of 2,000,000 runs (1,000 of seed x 1,000 of dataset.split_seed x 2 of neuron), and one may have "
        "100,000; name fewer values, or let snn-exp search choose among them"
    )
    assert time.process_time() - began < 2


def test_an_argument_too_many_is_refused_at_once() -> None:
    with pytest.raises(
        UserError, match=r"^10,000 arguments are more than the 1,000 that a command takes; put what they"
    ):
        parse_overrides([f"seed={number}" for number in range(10 * MAX_ARGUMENTS)])
