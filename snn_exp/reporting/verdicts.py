"""Verdicts on the claims of a study, and the answer that they add up to. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from snn_exp.reporting.claims import Claim, Finding, Outcome

LEVEL = 0.05  # of all tests of a study together, after Holm


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
    def is_uncorrected(self) -> bool:
        """Return whether it is decided by its own interval alone: corrected for the other tests, p is above 0.05."""
        p = self.outcome.tested_p
        return self.finding in ("holds", "the opposite holds") and p is not None and p > LEVEL

    @property
    def said(self) -> str:
        """Return the answer in words."""
        return self.finding + ", uncorrected" * self.is_uncorrected

    @property
    def compared(self) -> str:
        """Return what is compared, in words: the method, and what it is compared with."""
        return f"{self.of} against {self.than}" if self.than else self.of

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
        weak = sum(v.is_uncorrected for v in self.verdicts)
        for finding in _FINDINGS:
            if len(found[finding]) == len(self.verdicts):
                said = {"not decided": "not decided yet"}.get(finding, finding)
                return f"{said} ({weak} of {len(self.verdicts)} uncorrected)" if weak else said
        first: Finding = (
            "holds" if found["holds"] else "the opposite holds" if found["the opposite holds"] else "not shown"
        )
        rest = ", ".join(f"{_IN_REST.get(f, f)} in {len(found[f])}" for f in _FINDINGS if found[f] and f != first)
        rest += f"; {weak} uncorrected" if weak else ""
        return f"{first} in {len(found[first])} of {len(self.verdicts)} {self.counted} ({rest})"

    @property
    def holds_everywhere(self) -> bool:
        """Return whether all of its verdicts are that it holds."""
        return bool(self.verdicts) and all(v.finding == "holds" for v in self.verdicts)

    @property
    def rank(self) -> int:
        """Return its place where what does not show is printed first, and what is not decided last."""
        found = {v.finding for v in self.verdicts}
        if not found or found == {"not decided"}:
            return 4
        if "holds" not in found:
            return 0 if "the opposite holds" in found else 1
        return 3 if found == {"holds"} else 2

    @property
    def counted(self) -> str:
        """Return what its verdicts are: settings, where each has one, or comparisons."""
        return "settings" if len({v.setting for v in self.verdicts}) == len(self.verdicts) else "comparisons"


_FINDINGS: tuple[Finding, ...] = ("holds", "not shown", "the opposite holds", "no test", "not decided")
_IN_REST = {"the opposite holds": "the opposite", "not decided": "still to be run"}
