"""A claim of a study, and the verdicts on it. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement that the results of a study support or not.

    Args:
        says: the sentence.
        test: higher or lower (the interval of the paired difference excludes 0), within (the mean paired difference is
            at most margin), equivalent (two one-sided tests at margin), at_least or at_most (the mean against value),
            ratio (the interval of the paired ratio of `of` to `than` lies below value).
        of: methods it is said of.
        than: methods they are compared with.
        settings: where.
        metric: such as test/acc.
        margin: in the metric's unit.
        value: in the metric's unit; of a ratio, a number.
        than_metric: of `than` in a ratio, where it is another one.
        than_in: the setting in which it is compared with `than`, if not its own; then `than` may be left out, which
            compares each method with itself.
    """

    says: str
    test: Literal["higher", "lower", "within", "equivalent", "at_least", "at_most", "ratio"]
    of: Sequence[str]
    than: Sequence[str]
    settings: Sequence[str]
    metric: str
    margin: float | None
    value: float | None
    than_metric: str | None = None
    than_in: str | None = None


Finding = Literal["holds", "not shown", "the opposite holds", "no test", "not decided"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of a claim for one comparison.

    Args:
        setting: where.
        of: the method it is said of.
        than: the method it is compared with; "" where the claim is on a mean alone.
        finding: the answer.
        figures: the statistics it rests on, in words.
        p: of the paired t-test, uncorrected; None where there is none.
    """

    setting: str
    of: str
    than: str
    finding: Finding
    figures: str
    p: float | None = None


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
