"""The pages of `snn-exp evidence`: studies/README.md, and marked parts of docs/evidence.md and README.md. No torch.

What stands between the marks is written by the command alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from snn_exp import escaping
from snn_exp.errors import UserError
from snn_exp.files import read_text, require_within, write_text
from snn_exp.reporting import tables
from snn_exp.reporting.claims import Finding
from snn_exp.reporting.formatting import shown_p
from snn_exp.reporting.verdicts import Answer
from snn_exp.studies import claims_section
from snn_exp.studies.evidence import ORDER, Evidence, Figure, Found, Place, gather, verdict_of
from snn_exp.studies.published import PUBLISHED
from snn_exp.studies.sentences import SENTENCES
from snn_exp.studies.spec import names, studies_root
from snn_exp.studies.study_links import linked

plain = escaping.markdown
BEGIN, END = "<!-- snn-exp evidence: begin -->", "<!-- snn-exp evidence: end -->"
LARGEST = 2**20  # bytes of a page
VERDICTS = ("the opposite", "mostly the opposite", "not shown", "holds when", "holds", "still to be run")


def pages() -> dict[Path, str]:
    """Return the pages that the command writes: path -> text.

    Raises:
        UserError: there is no study, or a page lacks the marks between which it is written.
    """
    if not names():
        raise UserError(f"there is no study in {studies_root()}; point SNN_EXP_STUDIES at the folder that holds them")
    evidence = gather(PUBLISHED)
    root = studies_root()
    made = {root / "README.md": _studies_page(evidence)}
    for path, part in (
        (root.parent / "docs" / "evidence.md", _full(evidence, "../studies/")),
        (root.parent / "README.md", _lines(evidence)),
    ):
        if path.is_file():
            made[path] = _between_marks(path, part)
    return made


def write() -> list[Path]:
    """Write the pages, and return their paths."""
    made = pages()
    for path, text in made.items():
        write_text(require_within(path, studies_root().parent), text)
    return list(made)


def _between_marks(path: Path, part: str) -> str:
    text = read_text(path, LARGEST)
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(
            f"{path} has no place for the answers; add the two lines {BEGIN} and {END} where they are to stand"
        )
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def _studies_page(evidence: Evidence) -> str:
    parts = [
        "# Studies",
        "Written by `snn-exp evidence` from the committed rows and claims of the studies below.",
        _full(evidence, ""),
    ]
    return "\n\n".join(parts) + "\n"


def _list(evidence: Evidence, to: str) -> str:
    """Tabulate the studies, those without a page last."""
    cells = []
    for name, (study, answers) in evidence.studies.items():
        held = sum(answer.holds_everywhere for answer in answers)
        said = f"{held} of {len(answers)} hold everywhere" if answers else f"none ({study.status})"
        said += "; runs are still to be done" * (name in evidence.unfinished)
        cells.append([f"[{name}]({to}{name}/README.md)", plain(study.question, begins=False), said])
    for study in evidence.open:
        link = f"[{study.name}]({to}{study.name}/study.yaml)"
        cells.append([link, plain(study.question, begins=False), "written down, still to be run"])
    return tables.of_markdown(["study", "question", "claims"], cells)


def _full(evidence: Evidence, to: str) -> str:
    """Write all answers.

    Args:
        evidence: what the studies say.
        to: the path to the studies' folders.
    """
    intro = (
        "Each sentence of the two abstracts, in our words, and what the claims of the studies say of it: at the "
        "settings that were run, with what was searched there, and nothing beyond (each study's page lists both). What "
        "does not show is printed first. *Holds when*: in some of the comparisons; *mostly the opposite*: more of "
        "them are decided the other way. *Not shown* is no proof of the contrary; *the opposite*: at least one is "
        "decided the other way, and none holds. Which claim bears "
        "on which sentence was written into the studies after some of their rows were seen; the claims themselves are "
        "as they were. p is Holm-corrected within the study, where there is a paired test. "
        "*Uncorrected*: the interval of the single comparison decides it, and p is above 0.05 among so many."
    )
    sections = [_sentence(evidence, name, to) for name in SENTENCES]
    listed = "### All studies\n\n" + _list(evidence, to)
    return "\n\n".join([intro, _overview(evidence), *sections, *_published(evidence, to), listed])


def _overview(evidence: Evidence) -> str:
    cells = [
        [plain(SENTENCES[name].says, begins=False), SENTENCES[name].paper, _counted(evidence.found[name])]
        for name in _ranked(evidence)
    ]
    return tables.of_markdown(["sentence", "abstract", "answer"], cells)


def _ranked(evidence: Evidence) -> list[str]:
    """Return the sentences, those that do not show first."""
    return sorted(SENTENCES, key=lambda name: VERDICTS.index(_verdict(evidence.found[name])))


def _verdict(found: Sequence[Found]) -> str:
    return verdict_of(one.verdict for one in found)


def _counted(found: Sequence[Found]) -> str:
    """Return the answer to a sentence, with the numbers of comparisons."""
    decided = [one for one in found if one.verdict.finding != "not decided"]
    if not decided:
        return "still to be run"
    counts = {what: sum(one.verdict.finding == what for one in decided) for what in ORDER}
    verdict = _verdict(decided)
    first: Finding = _FINDINGS.get(verdict, "holds")
    rest = "".join(f"; {_SHORT.get(what, what)} in {n}" for what, n in counts.items() if n and what != first)
    weak = sum(one.verdict.is_uncorrected for one in decided)
    rest += f"; {weak} of these uncorrected" if weak else ""
    return f"**{verdict}** ({counts[first]} of {len(decided)} comparisons{rest})"


_FINDINGS: Mapping[str, Finding] = {
    "the opposite": "the opposite holds",
    "mostly the opposite": "the opposite holds",
    "not shown": "not shown",
}
_SHORT: Mapping[str, str] = {"the opposite holds": "the opposite"}


def _sentence(evidence: Evidence, name: str, to: str) -> str:
    """Write the section of one sentence: the places, the figures, what to read beside them."""
    found, sentence = evidence.found[name], SENTENCES[name]
    decided = [one for one in found if one.verdict.finding != "not decided"]
    parts = [f"### {plain(sentence.says)}", f"{sentence.paper}. {_counted(found)}."]
    if decided:
        by_place: dict[Place, list[Found]] = {}
        for one in decided:
            by_place.setdefault(one.place, []).append(one)
        places = sorted(by_place.items(), key=lambda item: (VERDICTS.index(_verdict(item[1])), item[0]))
        cells = [
            [p.data, p.block, str(p.layers), _verdict(of), str(len(of)), ", ".join(_holding(of)) or "-"]
            for p, of in places
        ]
        parts.append(tables.markdown(["data", "block", "layers", "answer", "comparisons", "holds for"], cells))
        parts.append("The figures:")
        headings = ["data", "block", "layers", "neuron", "comparison", "figure", "n", "p", "verdict", "study"]
        parts.append(tables.of_markdown(headings, [_figure_cells(one, to) for one in decided]))
    for study in dict.fromkeys(one.study for one in found):
        if note := evidence.studies[study][0].note:
            parts.append(f"Note on {study}: {linked(note, to, but=study)}")
    if controls := evidence.controls[name]:
        lines = [
            f"- **{plain(c.answer.summary)}**: {plain(_says(c.answer))} ({_link(c.study, c.number, to)})"
            for c in controls
        ]
        parts.append("Read beside it:\n\n" + "\n".join(lines))
    if waiting := evidence.waiting[name]:
        links = ", ".join(f"[{study}]({to}{study}/study.yaml)" for study in waiting)
        parts.append(f"Written down, and without a page yet: {links}.")
    return "\n\n".join(parts)


def _holding(found: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(one.verdict.compared for one in found if one.verdict.finding == "holds"))


def _says(answer: Answer) -> str:
    return " ".join(answer.claim.says.split())


def _link(study: str, number: int, to: str) -> str:
    return f"[{study}, claim {number}]({to}{study}/README.md#claim-{number})"


def _figure_cells(one: Found, to: str) -> list[str]:
    outcome = one.verdict.outcome
    _, compared, said, n, verdict = claims_section.cells(one.answer, one.verdict, with_p=False)
    metric = one.answer.claim.metrics
    p = "-" if outcome.tested_p is None else shown_p(outcome.tested_p)
    limit = f" ({claims_section.held_against(one.answer)})"
    texts = [one.place.data, one.place.block, str(one.place.layers), one.neuron, compared + limit,
             said if metric in limit else f"{metric} {said}", n, p, verdict]  # fmt: skip
    return [*(plain(text, begins=False) for text in texts), _link(one.study, one.number, to)]


def _published(evidence: Evidence, to: str) -> list[str]:
    """Write the published figures beside ours, one section per data set."""
    sections = []
    for data, published in PUBLISHED.items():
        ours = [figure for figure in evidence.figures if figure.data == data]
        if not ours:
            continue
        cells = [_our_cells(figure, to) for figure in ours]
        cells += [[plain(p.what, begins=False), p.accuracy, "-", p.chosen, f"[{p.source}]({p.url})"] for p in published]
        said = (
            f"Accuracies on the official test set of {data}. Ours: the best epoch and the settings are chosen on "
            "validation data, and the test set is read once. The published ones are copied from their sources: other "
            "networks, other lengths of training and mostly other ways of choosing: no comparison, and "
            "none is reproduced here. In one of the sources choosing the epoch on the test set is worth 0.04 to 5.8 "
            "points; `trainer.peek=true` says what it would be worth in a run of ours, and no such run counts here."
        )
        headings = ["network", "test %", "n", "chosen", "source"]
        sections.append(f"### {plain(data)}: published figures beside ours\n\n{said}")
        sections.append(tables.of_markdown(headings, cells))
    return sections


def _our_cells(figure: Figure, to: str) -> list[str]:
    what = f"ours: {figure.method}, {figure.layers} layers, width {figure.width}, T = {figure.num_steps}"
    accuracy, n = figure.accuracy.text(100, 2), str(figure.accuracy.n)
    link = f"[{figure.study}]({to}{figure.study}/README.md)"
    return [plain(what, begins=False), accuracy, n, "on validation data", link]


def _lines(evidence: Evidence) -> str:
    """Write the table of README.md: one line per sentence."""
    cells = []
    for name in _ranked(evidence):
        studies = dict.fromkeys(one.study for one in evidence.found[name])
        links = ", ".join(
            f"[{study}](studies/{study}/README.md){' (unfinished)' * (study in evidence.unfinished)}"
            for study in studies
        )
        cells.append([plain(SENTENCES[name].says, begins=False), _counted(evidence.found[name]), links or "-"])
    return tables.of_markdown(["the abstracts say", "our rows say", "studies"], cells)
