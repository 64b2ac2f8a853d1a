"""The page of a report in a real browser, and its tables through LaTeX."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snn_exp.cli import main
from tests.stored import store

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A report of eight lines."""
    root = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root))
        for seed in range(2):
            for place, depth in enumerate(("d8", "d20", "d56", "d110")):
                store("norm=bn", f"depth={depth}", f"seed={seed}", acc=0.9 + 0.01 * seed + 0.001 * place)
                store("norm=psp", f"depth={depth}", f"seed={seed}", acc=0.8 + 0.02 * seed - 0.01 * place, work=3.0)
        assert main.main(["report", "dataset=digits", "--versus", "norm=bn", "--format", "html,tex"]) == 0
        yield next((root / "reports").glob("dataset=digits*"))


@pytest.fixture(params=[1280, 360])
def page(folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page at the width of a desk and of a phone; nothing may be complained of, and nothing fetched."""
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": request.param, "height": 800})
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        address = (folder / "report.html").as_uri()
        opened.on("request", lambda r: None if r.url == address or r.url.startswith("data:") else said.append(r.url))
        opened.goto(address)
        yield opened
        browser.close()
    assert said == []


def column(page: Any, number: int) -> list[str]:
    return list(page.locator("table").first.locator(f"tbody tr:visible td:nth-child({number})").all_inner_texts())


def test_a_heading_sorts_by_number_and_then_the_other_way(page: Any) -> None:
    heading = page.locator("table").first.locator("th").nth(1)
    heading.click()
    means = [float(text.split()[0]) for text in column(page, 2)]
    assert means == sorted(means) and len(means) == 8
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.click()
    assert [float(text.split()[0]) for text in column(page, 2)] == means[::-1]


def test_a_cell_without_a_number_stays_last(page: Any) -> None:
    headings = page.locator("table").first.locator("th").all_inner_texts()
    place = next(i for i, heading in enumerate(headings) if heading.startswith("difference"))
    for _ in range(2):
        page.locator("table").first.locator("th").nth(place).click()
        assert column(page, place + 1)[-4:] == ["-"] * 4


def test_the_filter_keeps_the_rows_that_have_all_words(page: Any) -> None:
    page.locator("#filter").fill("PSP d56")
    assert column(page, 1) == ["psp d56"]
    assert page.locator("table").nth(1).locator("tbody tr:visible").count() == 2, "the two seeds"
    page.locator("#filter").fill("")
    assert len(column(page, 1)) == 8


def test_no_part_of_the_page_is_wider_than_the_screen(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_figure_gives_the_numbers_that_stand_beside_the_page(page: Any, folder: Path) -> None:
    with page.expect_download() as waiting:
        page.locator("figure a.download").first.click()
    assert Path(waiting.value.path()).read_text() == (folder / "figures" / waiting.value.suggested_filename).read_text()


def test_the_tables_go_through_latex(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{"
        + str(folder / "report.tex")
        + "}\\end{document}"
    )
    done = subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
