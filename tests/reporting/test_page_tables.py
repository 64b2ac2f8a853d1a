"""Tables of a page: order, alignment, marks."""

from __future__ import annotations

from snn_exp.reporting import page_tables
from snn_exp.reporting.looks import looks
from snn_exp.reporting.page_tables import FIGURE_SPACE, POINT_SPACE
from snn_exp.reporting.tables import Entry

ROWS = [
    [Entry("bn"), Entry("90.00 ± 1.00", 0.9), Entry("12.5 ± 0.1", 12.5), Entry("-")],
    [Entry("lost"), Entry("-"), Entry("-"), Entry("-")],
    [Entry("psp"), Entry("93.20 ± 1.20", 0.932), Entry("1,200 ± 30", 1200.0), Entry("+3.20 [+1.00, +5.40]", 3.2)],
]
HEADINGS = ["runs", "test/acc %", "energy nJ", "difference"]


def shown(**options: object) -> page_tables.PageTable:
    return page_tables.of(HEADINGS, ROWS, looks(["bn", "psp"]), **options)  # type: ignore[arg-type]


def test_the_best_come_first_and_those_without_a_number_last() -> None:
    high = shown(by="test/acc %", best_is_high=["test/acc %"])
    assert [row[0].lead for row in high.rows] == ["psp", "bn", "lost"]
    assert [heading.order for heading in high.headings] == ["", "descending", "", ""]
    low = shown(by="energy nJ")
    assert [row[0].lead for row in low.rows] == ["bn", "psp", "lost"]
    assert low.headings[2].order == "ascending"
    assert [row[0].lead for row in shown(order=["lost", "psp"]).rows] == ["lost", "psp", "bn"]


def test_decimal_points_of_a_column_lie_in_a_line() -> None:
    bn, lost, psp = shown().rows
    assert (bn[2].lead, bn[2].tail) == ("12.5", " ± 0.1")
    assert (psp[2].lead, psp[2].tail) == (f"1,200{POINT_SPACE}{FIGURE_SPACE}", " ± 30"), "as wide behind the point"
    assert bn[2].width == psp[2].width == lost[2].width > 0, "what follows takes the same room in each row"
    assert psp[3].lead == "+3.20" and psp[3].tail == " [+1.00, +5.40]"


def test_no_text_is_lost_by_aligning() -> None:
    for row, entries in zip(shown().rows, ROWS, strict=True):
        for cell, entry in zip(row, entries, strict=True):
            said = (cell.lead + cell.tail).replace(FIGURE_SPACE, "").replace(POINT_SPACE, "")
            assert said == entry.text and cell.number == entry.number


def test_names_stay_whole_and_have_the_mark_of_their_line() -> None:
    table = page_tables.of(["runs"], [[Entry("2 layers d8")], [Entry("bn")]], looks(["bn"]))
    assert [row[0].lead for row in table.rows] == ["2 layers d8", "bn"]
    assert table.rows[0][0].swatch == "" and looks(["bn"])["bn"].colour in table.rows[1][0].swatch
