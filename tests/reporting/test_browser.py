"""The page of a report in a real browser, and its tables through LaTeX."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from snn_exp.cli import main
from snn_exp.reporting import search_page
from tests.stored import store
from tests.sweeps.test_search_page import shown

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


@contextlib.contextmanager
def opened(folder: Path, name: str = "report.html", **context: Any) -> Iterator[Any]:
    """A page in a browser; nothing may be complained of, and nothing fetched."""
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **context})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        address = (folder / name).as_uri()
        page.on("request", lambda r: None if r.url == address or r.url.startswith("data:") else said.append(r.url))
        page.goto(address)
        yield page
        browser.close()
    assert said == []


@pytest.fixture(params=[1280, 360])
def page(folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page at the width of a desk and of a phone."""
    with opened(folder, viewport={"width": request.param, "height": 800}) as shown:
        yield shown


def enlivened(page: Any) -> int:
    """Scroll to every figure and wait for its chart; return how many there are."""
    figures = page.locator("figure").all()
    for figure in figures:
        figure.scroll_into_view_if_needed()
        figure.and_(page.locator(".enlivened")).wait_for(timeout=30_000)
    return len(figures)


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


def test_every_figure_becomes_a_chart_of_the_numbers_behind_its_link(page: Any, folder: Path) -> None:
    assert enlivened(page) == 5
    assert page.locator(".still:visible").count() == 0
    drawn = page.evaluate(
        """() => Object.fromEntries([...Bokeh.index].filter(view => view.model.type === "Figure").map(view => [
            view.el.closest("figure")?.id ?? view.el.getRootNode().host?.closest("figure").id,
            view.model.renderers.filter(one => one.glyph.type === "Scatter" && one.data_source.data.line)
                .map(one => [one.data_source.data.line[0], [...one.data_source.data.y]])]))"""
    )
    numbers = pd.read_csv(folder / "figures" / "pareto_digits.csv").set_index("line")["mean"]
    shown = dict(drawn["pareto_digits"])
    assert {name: y[0] for name, y in shown.items()} == pytest.approx({k: 100 * v for k, v in numbers.items()})


def test_a_mark_says_its_values_under_the_pointer(folder: Path) -> None:
    with opened(folder) as page:
        page.locator("figure#pareto_digits").scroll_into_view_if_needed()
        page.locator("figure#pareto_digits.enlivened").wait_for()
        page.wait_for_timeout(500)
        page.locator("figure#pareto_digits figcaption").scroll_into_view_if_needed()
        x, y, name = page.evaluate(
            """() => {
            const view = [...Bokeh.index].find(view => view.model.type === "Figure" && [...view.model.xaxis][0].axis_label.includes("energy"));
            const points = view.model.renderers.find(one => one.glyph.type === "Scatter").data_source.data;
            const at = view.el.getBoundingClientRect();
            return [at.x + view.frame.x_scale.compute(points.x[0]), at.y + view.frame.y_scale.compute(points.y[0]), points.line[0]];
        }"""
        )
        page.mouse.move(x, y)
        tooltip = page.locator(".bk-tooltip-content")
        tooltip.wait_for()
        said = tooltip.inner_text()
        mean = 100 * pd.read_csv(folder / "figures" / "pareto_digits.csv").set_index("line")["mean"][name]
        assert name in said and f"{mean:.5g} ± " in said and "nJ" in said


def test_a_button_switches_its_line_off_and_on_in_all_axes(page: Any) -> None:
    enlivened(page)
    visible = """() => [...Bokeh.index].filter(view => view.model.type === "Figure").flatMap(view => view.model.renderers)
        .filter(one => one.data_source.data.line?.[0] === "psp d56" && one.visible).length"""
    before = page.evaluate(visible)
    button = page.locator("figure#curves_digits .legend button", has_text="psp d56")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false" and page.evaluate(visible) < before
    button.click()
    assert button.get_attribute("aria-pressed") == "true" and page.evaluate(visible) == before
    button.dblclick()
    pressed = page.locator("figure#curves_digits .legend button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["psp d56"], "alone"


def test_without_scripts_the_pictures_are_there(folder: Path) -> None:
    with opened(folder, java_script_enabled=False) as page:
        assert page.locator(".still svg:not(.look)").count() == 5
        assert all(box["width"] > 300 for box in (one.bounding_box() for one in page.locator(".still").all()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_axe_finds_nothing_serious(folder: Path, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(folder, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        enlivened(page)
        for details in page.locator("details").all()[:8]:
            details.evaluate("one => one.open = true")
        found = Axe().run(page).response
    assert len(found["passes"]) > 20, "it has looked"
    grave = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"]) for one in grave] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_page_of_a_search(tmp_path: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    search_page.write(shown(), tmp_path)
    with opened(tmp_path, "search.html", viewport={"width": 420, "height": 900}, color_scheme=scheme) as page:
        found = Axe().run(page).response
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    grave = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"]) for one in grave] == []


def test_axe_would_find_what_is_wrong(folder: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(folder) as page:
        page.evaluate(
            "document.querySelector('#filter').closest('label').replaceWith(document.querySelector('#filter'))"
        )
        page.evaluate("document.querySelector('#filter').placeholder = ''")
        assert "label" in [one["id"] for one in Axe().run(page).response["violations"]]


def test_colours_follow_the_scheme_of_the_reader(folder: Path) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        with opened(folder, color_scheme=scheme) as page:
            enlivened(page)
            grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            lines = page.evaluate(
                """() => [...Bokeh.index].filter(view => view.model.type === "Figure").flatMap(view => view.model.renderers)
                .filter(one => one.data_source.data.line?.[0] === "psp d8" && one.glyph.line_color)
                .map(one => one.glyph.line_color.value ?? one.glyph.line_color)"""
            )
            look = of_report(page)["psp d8"]
            assert set(lines) == {look[scheme == "dark"]}
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}


def of_report(page: Any) -> dict[str, list[str]]:
    texts = page.locator("script.chart").all_text_contents()
    return {name: look for text in texts for name, look in json.loads(text)["looks"].items()}


def test_on_paper_every_column_and_every_picture_is_there(folder: Path, tmp_path: Path) -> None:
    with opened(
        folder, viewport={"width": 1047, "height": 718}, color_scheme="dark"
    ) as page:  # A4 landscape less margins
        enlivened(page)
        page.emulate_media(media="print")
        assert page.locator(".still:visible").count() == 5 and page.locator(".live:visible").count() == 0
        wide = page.evaluate(
            "[...document.querySelectorAll('table, svg, pre, dl')].filter(one => one.offsetParent !== null).map(one => one.getBoundingClientRect()).filter(box => box.right > 1048).length"
        )
        assert wide == 0
        headings = page.locator("table").first.locator("th")
        assert headings.all_inner_texts()[-1] == "p" and headings.last.bounding_box()["x"] < 1047
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").stat().st_size > 20_000


def test_a_table_that_is_wider_than_the_screen_shows_that_it_scrolls(folder: Path) -> None:
    with opened(folder, viewport={"width": 420, "height": 800}) as page:
        region = page.locator(".scroll").first
        assert region.evaluate("one => one.scrollWidth > one.clientWidth")
        assert region.get_attribute("tabindex") == "0" and region.get_attribute("aria-label")
        first = region.locator("tbody td").first
        before = first.bounding_box()["x"]
        region.focus()
        region.evaluate("one => { one.scrollLeft = 300 }")
        assert first.bounding_box()["x"] == pytest.approx(before, abs=1), "the name of the line stays"
        assert "gradient" in region.evaluate("one => getComputedStyle(one).backgroundImage")


def test_the_tables_go_through_latex(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{"
        + str(folder / "report.tex")
        + "}\\end{document}"
    )
    done = subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
