"""The claims on the page of a study: the verdicts first, then a table and a forest plot per claim. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from snn_exp import escaping
from snn_exp.reporting import tables
from snn_exp.reporting.claims import CLAIMS, keys_of
from snn_exp.reporting.figures import Picture
from snn_exp.reporting.forest import forest
from snn_exp.reporting.formatting import shown, shown_interval, shown_p
from snn_exp.reporting.verdicts import Answer, Verdict

plain = escaping.markdown
PLOT = "claim_"  # begins the names of the forest plots


def plots(answers: Sequence[Answer]) -> dict[int, Picture]:
    """Return number of a claim -> its forest plot; only of claims that have several intervals."""
    made = {number: forest(answer, f"{PLOT}{number:02}") for number, answer in enumerate(answers, 1)}
    return {number: picture for number, picture in made.items() if picture}


def remove_others(folder: Path, kept: Collection[Picture]) -> None:
    """Remove the forest plots of claims that a study no longer has.

    Args:
        folder: of its plots.
        kept: those that it has.
    """
    for path in folder.glob(f"{PLOT}[0-9]*.png"):
        if path.stem not in {picture.name for picture in kept}:
            path.unlink()


def written(answers: Sequence[Answer]) -> str:
    """Return the section: a table of the verdicts, what does not hold first, then one section per claim."""
    numbered = sorted(enumerate(answers, 1), key=lambda one: (one[1].rank, one[0]))
    overview = [
        [f"[{number}](#claim-{number})", plain(answer.summary, begins=False), plain(answer.claim.says, begins=False)]
        for number, answer in numbered
    ]
    kinds = dict.fromkeys(type(answer.claim) for answer in answers)
    holds = "; ".join(f"for `{CLAIMS.name_of(kind)}`, {kind.holds_where}" for kind in kinds)
    note = (
        f"*holds*: {holds}. *not shown*: it does not; that is no proof of the contrary. "
        "*no test*: all differences are equal, so there is no spread to test them against. "
        "Intervals are of 95 %. p values are Holm-corrected over all paired tests of this study; those of two "
        "one-sided tests are not. *uncorrected*: the interval decides it as the one thing asked, and p is above 0.05 "
        "among so many."
    )
    pictures = plots(answers)
    sections = [_section(number, answer, pictures) for number, answer in enumerate(answers, 1)]
    return "\n\n".join([tables.of_markdown(["claim", "verdict", "what was claimed"], overview), note, *sections])


def _section(number: int, answer: Answer, pictures: Mapping[int, Picture]) -> str:
    says = plain(" ".join(answer.claim.says.split()).rstrip("."))
    parts = [f"### Claim {number}", f"**{plain(answer.summary)}**: {says} ({plain(held_against(answer))})."]
    decided = [verdict for verdict in answer.verdicts if verdict.finding != "not decided"]
    if decided:
        parts.append(tables.markdown(*table(answer, decided)))
    if waiting := len(answer.verdicts) - len(decided):
        parts.append(f"Still to be run: {waiting} of {len(answer.verdicts)} comparisons.")
    if number in pictures:
        name = pictures[number].name
        parts.append(f"![{name}](figures/{name}.png)")
    return "\n\n".join(parts)


def held_against(answer: Answer) -> str:
    """Return the metric, and the margin or value of the claim, in words."""
    claim = answer.claim
    limits = [getattr(claim, name) for name, key in keys_of(type(claim)).items() if key.what in ("number", "margin")]
    words = [f"{limit:.3g}" if claim.test == "ratio" else shown(limit, claim.metric) for limit in limits]
    return f"{claim.metrics}, {' '.join((claim.test.replace('_', ' '), *words))}"


def table(answer: Answer, verdicts: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and cells of a claim's table.

    Args:
        answer: the claim.
        verdicts: those to print.
    """
    found = next((v.outcome.measured for v in verdicts if v.outcome.measured), None)
    what = found.quantity if found else "figures"
    p = "p (two one-sided tests)" if answer.claim.test == "equivalent" else "Holm p"
    with_p = any(v.outcome.tested_p is not None for v in verdicts)
    headings = ["setting", "comparison", f"{what} [95 % interval]", "n", *([p] if with_p else []), "verdict"]
    return headings, [cells(answer, v, with_p) for v in verdicts]


def cells(answer: Answer, verdict: Verdict, with_p: bool) -> list[str]:
    """Return the cells of one verdict, as plain text."""
    outcome = verdict.outcome
    m, p = outcome.measured, outcome.tested_p
    said = outcome.figures
    if m is not None:
        said = shown_interval(m.mean, m.low, m.high, answer.claim.metric, m.quantity)
    remark = f" ({outcome.remark})" if outcome.remark else ""
    in_p = [] if not with_p else ["-" if p is None else shown_p(p)]
    return [verdict.setting, verdict.compared, said, str(m.n) if m else "-", *in_p, verdict.said + remark]
