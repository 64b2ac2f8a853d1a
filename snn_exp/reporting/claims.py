"""The kinds of claims of a study. No torch.

A kind is one class, registered under the name that study.yaml gives as `test`. Its fields are the keys that it takes
there besides says, of, in and metric; `outcome` tests it and words the figures; `holds_where` says where it holds, on
the pages of studies and in docs/studies.md. If all differences are equal there is no test, so they decide nothing,
however many they are.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, ClassVar, Literal

from snn_exp.registry import Registry
from snn_exp.reporting.comparison import Rows, values
from snn_exp.reporting.formatting import all_of, shown, shown_difference, shown_p, shown_ratio
from snn_exp.reporting.stats import PairedDifference, equivalence_p, paired_difference, paired_ratio

ALPHA = 0.05
Finding = Literal["holds", "not shown", "the opposite holds", "no test", "not decided"]


@dataclasses.dataclass(frozen=True)
class Measured:
    """The number that a test is about, as a table prints it and a forest plot draws it.

    Args:
        quantity: a mean paired difference, a mean, or a geometric mean of paired ratios.
        mean: in the metric's unit.
        low: lower end of its 95 % interval; None where there is none.
        high: its upper end.
        n: number of pairs, or of runs.
        bounds: the values that it is held against: 0, a margin up and down, a limit.
    """

    quantity: Literal["difference", "mean", "ratio"]
    mean: float
    low: float | None
    high: float | None
    n: int
    bounds: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a test.

    Args:
        finding: the answer.
        figures: the statistics it rests on, in words.
        p: of the paired t-test, uncorrected; None where there is none.
        measured: the same statistics as numbers; None where nothing was measured.
        tested_p: the p value that a page prints: Holm-corrected once the claims of a study are judged together, or that
            of the two one-sided tests of an equivalence, which is not corrected.
        remark: what a table says besides, such as how many runs diverged.
    """

    finding: Finding
    figures: str
    p: float | None = None
    measured: Measured | None = None
    tested_p: float | None = None
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class ClaimKey:
    """An annotation of a field: what study.yaml may say under that key.

    Args:
        what: methods are a name or a list of names, a number may be a fraction such as 1/12; a margin is a number
            above 0.
        needed: whether it may not be left out.
    """

    what: Literal["methods", "setting", "metric", "number", "margin"]
    needed: bool = True


Methods = Annotated[Sequence[str], ClaimKey("methods")]
SettingName = Annotated[str, ClaimKey("setting")]
Metric = Annotated[str, ClaimKey("metric")]
Number = Annotated[float, ClaimKey("number")]
Margin = Annotated[float, ClaimKey("margin")]


@dataclasses.dataclass(frozen=True)
class Claim(ABC):
    """A statement that the results of a study support or not.

    Args:
        says: the sentence.
        of: the methods it is said of.
        settings: where.
        metric: such as test/acc.
        states: the sentence of an abstract that it states, of `snn_exp.studies.sentences`; "" for none.
        beside: the sentence that it must be read beside, such as a control of it; "" for none.
    """

    holds_where: ClassVar[str]  # in Markdown, to stand behind "where"

    says: str
    of: Sequence[str]
    settings: Sequence[str]
    metric: str
    states: str
    beside: str

    @property
    def test(self) -> str:
        """Return the name of its kind."""
        return CLAIMS.name_of(type(self))

    @property
    def metrics(self) -> str:
        """Return the metrics it is about, in words."""
        return self.metric

    def compared_with(self, setting: str, method: str) -> dict[str, tuple[str, str]]:
        """Return what it compares a method with, in words -> setting and method; nothing if it is about a mean."""
        return {}

    @abstractmethod
    def outcome(self, rows: Rows, others: Rows) -> Outcome:
        """Test it.

        Args:
            rows: seed -> finished run of the method it is said of.
            others: seed -> finished run of what the method is compared with; empty where it is about a mean alone.
        """


CLAIMS = Registry[Claim]("claim", traits=("holds_where",))


def keys_of(kind: type[Claim]) -> dict[str, ClaimKey]:
    """Return the keys that a kind takes besides those of all claims, in the order of its fields.

    A field that may be None may be left out.

    Example:
        >>> {name: key.needed for name, key in keys_of(CLAIMS["ratio"]).items()}
        {'than': True, 'than_in': False, 'value': True, 'than_metric': False}
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    shared = {field.name for field in dataclasses.fields(Claim)}
    found = {}
    for field in dataclasses.fields(kind):
        if field.name not in shared:
            hint, needed = hints[field.name], True
            if typing.get_origin(hint) in (typing.Union, types.UnionType):
                hint, needed = next(one for one in typing.get_args(hint) if one is not type(None)), False
            (key,) = (mark for mark in hint.__metadata__ if isinstance(mark, ClaimKey))
            found[field.name] = dataclasses.replace(key, needed=needed)
    return found


# --- of pairs -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PairedClaim(Claim):
    """A claim on pairs that share the seed.

    Args:
        than: the methods that each method is compared with.
        than_in: the setting in which it is compared with them, if not its own; then `than` may be left out, which
            compares each method with itself.
    """

    than: Methods
    than_in: SettingName | None

    def compared_with(self, setting: str, method: str) -> dict[str, tuple[str, str]]:
        """Return what it compares a method with: in words -> setting and method."""
        if self.than_in is None:
            return {than: (setting, than) for than in self.than}
        return {f"{self.than_in}/{than}": (self.than_in, than) for than in self.than or [method]}


class DifferenceClaim(PairedClaim):
    """A claim on the mean paired difference of the metric."""

    needs_a_spread: ClassVar[bool] = True

    def outcome(self, rows: Rows, others: Rows) -> Outcome:
        """Test it; equal differences decide nothing where the test needs a spread."""
        difference = paired_difference(values(rows, self.metric), values(others, self.metric))
        if difference is None or difference.n < 2:
            return Outcome("not decided", "fewer than two pairs")
        figures = shown_difference(difference, self.metric)
        d = difference
        measured = Measured("difference", d.mean, d.low, d.high, d.n, self.bounds)
        if difference.all_equal and self.needs_a_spread:
            return Outcome("no test", figures, measured=measured)
        return dataclasses.replace(self.decided(difference, figures, rows, others), measured=measured)

    @property
    def bounds(self) -> tuple[float, ...]:
        """Return the differences that it is held against."""
        return (0.0,)

    @abstractmethod
    def decided(self, difference: PairedDifference, figures: str, rows: Rows, others: Rows) -> Outcome:
        """Test it on two pairs or more.

        Args:
            difference: of the pairs.
            figures: the difference in words.
            rows: as in `outcome`.
            others: as in `outcome`.
        """


@CLAIMS.register("higher")
class Higher(DifferenceClaim):
    """The metric of a method is higher than that of another one."""

    holds_where = "the 95 % interval of the mean paired difference lies above 0"
    sign: ClassVar[int] = 1

    def decided(self, difference: PairedDifference, figures: str, rows: Rows, others: Rows) -> Outcome:
        """Ask on which side of 0 the interval lies."""
        if not difference.excludes_zero:
            return Outcome("not shown", figures, difference.p)
        is_so = self.sign * difference.mean > 0
        return Outcome("holds" if is_so else "the opposite holds", figures, difference.p)


@CLAIMS.register("lower")
class Lower(Higher):
    """The metric of a method is lower than that of another one."""

    holds_where = "the 95 % interval of the mean paired difference lies below 0"
    sign = -1


@CLAIMS.register("within")
@dataclasses.dataclass(frozen=True)
class Within(DifferenceClaim):
    """The means of two methods differ by no more than a margin.

    Args:
        margin: in the metric's unit.
    """

    holds_where = "the mean paired difference is at most `margin`, up or down; its interval is printed beside it"
    needs_a_spread = False

    margin: Margin

    @property
    def bounds(self) -> tuple[float, ...]:
        """Return the margin, down and up."""
        return (-self.margin, self.margin)

    def decided(self, difference: PairedDifference, figures: str, rows: Rows, others: Rows) -> Outcome:
        """Compare the mean with the margin."""
        return Outcome("holds" if abs(difference.mean) <= self.margin else "not shown", figures)


@CLAIMS.register("equivalent")
@dataclasses.dataclass(frozen=True)
class Equivalent(DifferenceClaim):
    """Two methods are shown to differ by less than a margin.

    Args:
        margin: in the metric's unit.
    """

    holds_where = "two one-sided paired t-tests at `margin` both reject at 5 %"

    margin: Margin

    @property
    def bounds(self) -> tuple[float, ...]:
        """Return the margin, down and up."""
        return (-self.margin, self.margin)

    def decided(self, difference: PairedDifference, figures: str, rows: Rows, others: Rows) -> Outcome:
        """Test both sides."""
        p = equivalence_p(values(rows, self.metric), values(others, self.metric), self.margin)
        at = f"two one-sided tests at {shown(self.margin, self.metric)}: p {shown_p(1.0 if p is None else p)}"
        finding: Finding = "holds" if p is not None and p < ALPHA else "not shown"
        return Outcome(finding, f"{figures}; {at}", tested_p=1.0 if p is None else p)


# --- of means -------------------------------------------------------------------------------------


@CLAIMS.register("at_least")
@dataclasses.dataclass(frozen=True)
class MeanAtLeast(Claim):
    """The mean of a method is at least some value.

    Args:
        value: in the metric's unit.
    """

    holds_where = "the mean is at least `value`, and no run diverged"

    value: Number

    def outcome(self, rows: Rows, others: Rows) -> Outcome:
        """Compare the mean with the value; a run that diverged is a loss."""
        found = values(rows, self.metric)
        if not found:
            return Outcome("not decided", "no finished run")
        mean = fmean(found.values())
        figures = f"{shown(mean, self.metric)} against {shown(self.value, self.metric)}, n = {len(found)}"
        of_mean = paired_difference(found, dict.fromkeys(found, 0.0))
        low, high = (of_mean.low, of_mean.high) if of_mean else (None, None)
        measured = Measured("mean", mean, low, high, len(found), (self.value,))
        if diverged := sum(not row.done for row in rows.values()):
            lost = f"{diverged} of {len(rows)} diverged"
            return Outcome("not shown", f"{figures}, and {lost}", measured=measured, remark=lost)
        return Outcome("holds" if self.allows(mean) else "not shown", figures, measured=measured)

    def allows(self, mean: float) -> bool:
        """Return whether a mean lies on the claimed side of the value."""
        return mean >= self.value


@CLAIMS.register("at_most")
class MeanAtMost(MeanAtLeast):
    """The mean of a method is at most some value."""

    holds_where = "the mean is at most `value`, and no run diverged"

    def allows(self, mean: float) -> bool:
        """Return whether a mean lies on the claimed side of the value."""
        return mean <= self.value


# --- of ratios ------------------------------------------------------------------------------------


@CLAIMS.register("ratio")
@dataclasses.dataclass(frozen=True)
class Ratio(PairedClaim):
    """The metric of a method is at most some multiple of that of another one.

    Args:
        value: the multiple.
        than_metric: the metric of the other method, where it is another one.
    """

    holds_where = (
        "the 95 % interval of the paired ratio (geometric mean over seeds) of `metric` to `than_metric` of `than`, "
        "which is `metric` if left out, lies below `value`"
    )

    value: Number
    than_metric: Metric | None

    @property
    def metrics(self) -> str:
        """Return the metrics it is about, in words."""
        return " / ".join(filter(None, (self.metric, self.than_metric)))

    def outcome(self, rows: Rows, others: Rows) -> Outcome:
        """Ask whether the interval of the ratio lies below the value."""
        of, than = values(rows, self.metric), values(others, self.than_metric or self.metric)
        if min([*of.values(), *than.values()], default=1.0) <= 0:
            return Outcome("not shown", "a value is not above 0, so there is no ratio")
        ratio = paired_ratio(of, than)
        if ratio is None or ratio.n < 2:
            return Outcome("not decided", "fewer than two pairs")
        against = f"against {self.value:.3g}"
        measured = Measured("ratio", ratio.mean, ratio.low, ratio.high, ratio.n, (self.value,))
        if ratio.low is None or ratio.high is None:
            equal = f"{all_of(ratio.n)} ratios are equal ({ratio.mean:#.3g} {against}): no spread, no test"
            return Outcome("no test", equal, measured=measured)
        figures = f"ratio {shown_ratio(ratio)} {against}, n = {ratio.n}"
        if ratio.high <= self.value:
            return Outcome("holds", figures, measured=measured)
        return Outcome("the opposite holds" if ratio.low > self.value else "not shown", figures, measured=measured)
