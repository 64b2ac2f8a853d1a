"""Judge the claims of a study by its results. No torch.

A claim holds, is not shown, or the opposite holds; it is not decided before its runs have finished.
"""

from __future__ import annotations

import dataclasses
import itertools

from snn_exp.reporting.claims import Claim
from snn_exp.reporting.formatting import shown_p
from snn_exp.reporting.stats import holm
from snn_exp.reporting.verdicts import Answer, Verdict
from snn_exp.studies.runner import Progress


def judge(progress: Progress) -> list[Answer]:
    """Answer each claim of the study; p values of all paired tests are Holm-corrected together."""
    answers = [Answer(claim, _verdicts(progress, claim)) for claim in progress.study.claims]
    outcomes = [v.outcome for answer in answers for v in answer.verdicts]
    tested = {id(outcome): outcome.p for outcome in outcomes if outcome.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))

    def with_holm(verdict: Verdict) -> Verdict:
        outcome = verdict.outcome
        if id(outcome) not in corrected:
            return verdict
        figures = f"{outcome.figures}, Holm p {shown_p(corrected[id(outcome)])}"
        p = corrected[id(outcome)]
        return dataclasses.replace(verdict, outcome=dataclasses.replace(outcome, figures=figures, tested_p=p))

    return [Answer(answer.claim, [with_holm(v) for v in answer.verdicts]) for answer in answers]


def _verdicts(progress: Progress, claim: Claim) -> list[Verdict]:
    """Return one verdict per comparison that the study runs; excluded comparisons have none."""
    run, found = set(progress.study.pairs()), []
    for setting, of in itertools.product(claim.settings, claim.of):
        if (setting, of) not in run:
            continue
        rows, others = progress.rows_of((setting, of)), claim.compared_with(setting, of)
        if not others:
            found.append(Verdict(setting, of, "", claim.outcome(rows, {})))
        for name, other in others.items():
            if other in run:
                found.append(Verdict(setting, of, name, claim.outcome(rows, progress.rows_of(other))))
    return found
