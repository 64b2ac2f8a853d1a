"""Judge the claims of a study by its results. No torch.

A claim holds, is not shown, or the opposite holds; it is not decided before its runs have finished. If all differences
are equal there is no test, so they decide nothing, however many they are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from statistics import fmean

from snn_exp.reporting.claims import Answer, Claim, Finding, Verdict
from snn_exp.reporting.comparison import values
from snn_exp.reporting.formatting import all_of, shown, shown_difference, shown_p, shown_ratio
from snn_exp.reporting.stats import equivalence_p, holm, paired_difference, paired_ratio
from snn_exp.runs.row import Row
from snn_exp.studies.runner import Progress

ALPHA = 0.05


def judge(progress: Progress) -> list[Answer]:
    """Answer each claim of the study; p values of all paired tests are Holm-corrected together."""
    answers = [Answer(claim, _verdicts(progress, claim)) for claim in progress.study.claims]
    tested = [v for answer in answers for v in answer.verdicts if v.p is not None]
    corrected = dict(zip(map(id, tested), holm([v.p for v in tested if v.p is not None]), strict=True))
    return [
        Answer(
            answer.claim,
            [
                dataclasses.replace(v, figures=f"{v.figures}, Holm p {shown_p(corrected[id(v)])}")
                if id(v) in corrected
                else v
                for v in answer.verdicts
            ],
        )
        for answer in answers
    ]


def _verdicts(progress: Progress, claim: Claim) -> list[Verdict]:
    """Return one verdict per comparison that the study runs; excluded comparisons have none."""
    run, found = set(progress.study.pairs()), []
    for setting, of in itertools.product(claim.settings, claim.of):
        if (setting, of) not in run:
            continue
        rows = progress.rows_of((setting, of))
        if not claim.than and not claim.than_in:
            found.append(Verdict(setting, of, "", *_judge_mean(claim, rows)))
        for than in claim.than or ([of] if claim.than_in else []):
            other = (claim.than_in or setting, than)
            if other in run:
                name = "/".join(other) if claim.than_in else than
                found.append(Verdict(setting, of, name, *_judge_pair(claim, rows, progress.rows_of(other))))
    return found


def _judge_mean(claim: Claim, rows: Mapping[int, Row]) -> tuple[Finding, str]:
    found = values(rows, claim.metric)
    if not found or claim.value is None:
        return "not decided", "no finished run"
    mean = fmean(found.values())
    holds = mean >= claim.value if claim.test == "at_least" else mean <= claim.value
    diverged = sum(not row.done for row in rows.values())
    figures = f"{shown(mean, claim.metric)} against {shown(claim.value, claim.metric)}, n = {len(found)}"
    if diverged:
        return "not shown", f"{figures}, and {diverged} of {len(rows)} diverged"
    return ("holds" if holds else "not shown"), figures


def _judge_pair(claim: Claim, a: Mapping[int, Row], b: Mapping[int, Row]) -> tuple[Finding, str, float | None]:
    if claim.test == "ratio":
        return *_judge_ratio(claim, a, b), None
    difference = paired_difference(values(a, claim.metric), values(b, claim.metric))
    if difference is None or difference.n < 2:
        return "not decided", "fewer than two pairs", None
    figures = shown_difference(difference, claim.metric)
    if difference.all_equal and claim.test != "within":
        return "no test", figures, None
    if claim.test in ("higher", "lower"):
        sign = 1 if claim.test == "higher" else -1
        finding: Finding = "not shown"
        if difference.excludes_zero:
            finding = "holds" if sign * difference.mean > 0 else "the opposite holds"
        return finding, figures, difference.p
    margin = claim.margin or 0.0
    if claim.test == "within":
        return ("holds" if abs(difference.mean) <= margin else "not shown"), figures, None
    p = equivalence_p(values(a, claim.metric), values(b, claim.metric), margin)
    within = f"{figures}; two one-sided tests at {shown(margin, claim.metric)}: p {shown_p(1.0 if p is None else p)}"
    return ("holds" if p is not None and p < ALPHA else "not shown"), within, None


def _judge_ratio(claim: Claim, a: Mapping[int, Row], b: Mapping[int, Row]) -> tuple[Finding, str]:
    of, than = values(a, claim.metric), values(b, claim.than_metric or claim.metric)
    if min([*of.values(), *than.values()], default=1.0) <= 0:
        return "not shown", "a value is not above 0, so there is no ratio"
    ratio = paired_ratio(of, than)
    if ratio is None or ratio.n < 2 or claim.value is None:
        return "not decided", "fewer than two pairs"
    if ratio.low is None or ratio.high is None:
        equal = f"{all_of(ratio.n)} ratios are equal ({ratio.mean:#.3g} against {claim.value:.3g}): no spread, no test"
        return "no test", equal
    figures = f"ratio {shown_ratio(ratio)} against {claim.value:.3g}, n = {ratio.n}"
    if ratio.high <= claim.value:
        return "holds", figures
    return ("the opposite holds" if ratio.low > claim.value else "not shown"), figures
