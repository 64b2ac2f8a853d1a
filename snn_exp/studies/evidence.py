"""What the claims of all studies say of the sentences of the two abstracts: per data, block and depth. No torch.

Only studies with a committed page count; the others are named as still to be run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.reporting.claims import Finding
from snn_exp.reporting.comparison import values
from snn_exp.reporting.mean import Mean
from snn_exp.reporting.verdicts import Answer, Verdict
from snn_exp.studies import runner, spec
from snn_exp.studies.judging import judge
from snn_exp.studies.sentences import SENTENCES
from snn_exp.studies.spec import Study

ORDER: tuple[Finding, ...] = ("the opposite holds", "not shown", "no test", "holds", "not decided")


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where a comparison was made.

    Args:
        data: the data set, and how much of it.
        block: of the network.
        layers: its depth.
    """

    data: str
    block: str
    layers: int


@dataclasses.dataclass(frozen=True)
class Found:
    """One comparison that bears on a sentence.

    Args:
        study: its study.
        number: of its claim there.
        answer: the claim with its verdicts.
        verdict: of the comparison.
        place: where it was made.
        neuron: with which.
    """

    study: str
    number: int
    answer: Answer
    verdict: Verdict
    place: Place
    neuron: str


@dataclasses.dataclass(frozen=True)
class Control:
    """A claim beside a sentence.

    Args:
        study: its study.
        number: of its claim there.
        answer: the claim with its verdicts.
    """

    study: str
    number: int
    answer: Answer


@dataclasses.dataclass(frozen=True)
class Figure:
    """The accuracy of a method on a data set to which published figures are compared.

    Args:
        data: its name.
        study: its study.
        setting: of the study.
        method: of the study.
        layers: its depth.
        width: of its first stage.
        num_steps: T.
        accuracy: on the test set, over seeds.
    """

    data: str
    study: str
    setting: str
    method: str
    layers: int
    width: str
    num_steps: str
    accuracy: Mean


@dataclasses.dataclass
class Evidence:
    """All that bears on the sentences.

    Args:
        found: sentence -> comparisons of the claims that state it.
        controls: sentence -> claims beside it.
        waiting: sentence -> studies that claim it and have no page yet.
        figures: on the whole of the data sets that have published figures.
        studies: the studies with a page, and their answers.
        open: the studies without one.
        unfinished: the names of studies with a page and with runs still to be done.
    """

    found: Mapping[str, list[Found]]
    controls: Mapping[str, list[Control]]
    waiting: Mapping[str, list[str]]
    figures: Sequence[Figure]
    studies: Mapping[str, tuple[Study, list[Answer]]]
    open: Sequence[Study]
    unfinished: Set[str] = frozenset()


def verdict_of(found: Iterable[Verdict]) -> str:
    """Return what verdicts add up to, in the words of `VERDICTS`."""
    findings = [verdict.finding for verdict in found if verdict.finding != "not decided"]
    if not findings:
        return "still to be run"
    held, opposed = findings.count("holds"), findings.count("the opposite holds")
    if held:
        return "holds" if held == len(findings) else "mostly the opposite" if opposed > held else "holds when"
    return "the opposite" if opposed else "not shown"


def gather(published: Iterable[str] = ()) -> Evidence:
    """Judge all studies, and sort their claims by the sentences that they name.

    Args:
        published: the data sets whose figures are wanted.
    """
    found: dict[str, list[Found]] = {name: [] for name in SENTENCES}
    controls: dict[str, list[Control]] = {name: [] for name in SENTENCES}
    waiting: dict[str, list[str]] = {name: [] for name in SENTENCES}
    figures: list[Figure] = []
    studies: dict[str, tuple[Study, list[Answer]]] = {}
    still_open, unfinished = [], set()
    for study in map(spec.load, spec.names()):
        if not (study.folder / "README.md").is_file():
            still_open.append(study)
            for name in dict.fromkeys(claim.states for claim in study.claims if claim.states):
                waiting[name].append(study.name)
            continue
        if not study.claims:
            studies[study.name] = study, []
            continue
        progress = runner.survey(study)
        configs = {run.key: run.config for run in progress.finals}
        answers = judge(progress)
        studies[study.name] = study, answers
        for number, answer in enumerate(answers, 1):
            if name := answer.claim.states:
                found[name] += [
                    one
                    for verdict in answer.verdicts
                    if (config := configs.get((verdict.setting, verdict.of))) is not None
                    for one in [Found(study.name, number, answer, verdict, _place(config), str(config.neuron["name"]))]
                    if not any(_is_the_same(one, other) for other in found[name])
                ]
            if name := answer.claim.beside:
                controls[name].append(Control(study.name, number, answer))
        figures += _figures(progress, set(published))
        if progress.todo() or progress.waiting():
            unfinished.add(study.name)
    for of in found.values():
        of.sort(key=lambda one: (ORDER.index(one.verdict.finding), one.place))
    for those in controls.values():
        those.sort(key=lambda one: one.answer.rank)
    return Evidence(found, controls, waiting, figures, studies, still_open, unfinished)


def _is_the_same(one: Found, other: Found) -> bool:
    """Return whether two studies test the same numbers in the same way, as where one takes over the other's runs."""
    return (
        one.verdict.outcome.measured is not None
        and (one.place, one.neuron) == (other.place, other.neuron)
        and (one.answer.claim.test, one.answer.claim.metrics) == (other.answer.claim.test, other.answer.claim.metrics)
        and one.verdict.outcome.measured == other.verdict.outcome.measured
    )


def _place(config: ExperimentConfig) -> Place:
    dataset = config.dataset
    data = [str(dataset["name"])]
    if num := dataset.get("num_train"):
        data.append(f"{num:,} images")
    if dataset.get("shuffle_time"):
        data.append("in shuffled order")
    return Place(", ".join(data), str(config.residual["name"]), config.depth.num_layers)


def _figures(progress: runner.Progress, published: set[str]) -> list[Figure]:
    made = []
    for key in dict.fromkeys(run.key for run in progress.finals):
        config = next(run.config for run in progress.finals if run.key == key)
        name = str(config.dataset["name"])
        if name not in published or config.dataset.get("num_train"):
            continue
        accuracies = values(progress.rows_of(key), "test/acc")
        if accuracies:
            width, steps = str(config.network.get("width", "-")), str(config.encoding["num_steps"])
            layers = config.depth.num_layers
            made.append(Figure(name, progress.study.name, *key, layers, width, steps, Mean.of(accuracies)))
    return made
