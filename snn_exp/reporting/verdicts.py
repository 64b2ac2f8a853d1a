"""Verdicts on the claims of a study, and the answer that they add up to. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from snn_exp.reporting.claims import Claim, Finding, Outcome


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of a claim for one comparison.

    Args:
        setting: where.
        of: the method it is said of.
        than: the method it is compared with; "" where the claim is on a mean alone.
        outcome: of its test.
    """

    setting: str
    of: str
    than: str
    outcome: Outcome

    @property
    def finding(self) -> Finding:
        """Return the answer."""
        return self.outcome.finding

    @property
    def figures(self) -> str:
        """Return the statistics it rests on, in words."""
        return self.outcome.figures


@dataclasses.dataclass(frozen=True)
class Answer:
    """A claim and its verdicts.

    Args:
        claim: the claim.
        verdicts: one for each setting, method and method it is compared with; none where the study excludes them all.
    """

    claim: Claim
    verdicts: Sequence[Verdict]

    @property
    def summary(self) -> str:
        """Return the answer in a few words."""
        if not self.verdicts:
            return "not run"
        found = {finding: [v for v in self.verdicts if v.finding == finding] for finding in _FINDINGS}
        for finding in _FINDINGS:
            if len(found[finding]) == len(self.verdicts):
                return {"not decided": "not decided yet"}.get(finding, finding)
        so_far = " so far" if found["not decided"] else ""
        if not found["holds"]:
            return ("does not hold" if found["the opposite holds"] else "not shown") + so_far
        where = ", ".join(_place(v) for v in found["holds"])
        rest = [f"{f}: {', '.join(_place(v) for v in found[f])}" for f in _FINDINGS[1:4] if found[f]]
        rest += [f"{len(found['not decided'])} not decided yet"] if found["not decided"] else []
        return f"holds when: {where} ({'; '.join(rest)})"


_FINDINGS: tuple[Finding, ...] = ("holds", "not shown", "the opposite holds", "no test", "not decided")


def _place(verdict: Verdict) -> str:
    return f"{verdict.of}{' against ' + verdict.than if verdict.than else ''} in {verdict.setting}"
