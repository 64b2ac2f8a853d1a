"""Text on its way out says the same and does nothing: each function, and one hostile string through every output."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from snn_exp import escaping
from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import EnergyConfig
from snn_exp.reporting.comparison import Comparison, Line, Panel
from snn_exp.runs.row import Row
from snn_exp.studies import runner
from snn_exp.studies.readme import write
from snn_exp.studies.spec import load
from tests.stored import split_of, store

# markup of every destination, escape codes, formulas, what breaks a line, what is no character at all
HOSTILE = (
    "=cmd|' /C calc'!A0 [/] [bold]:smile: \x1b[31m\x1b]0;owned\x07\x9b2J $\\frac{$ \\input{x} }% & # _ ~ ^ | ` "
    "[a](javascript:alert(1)) ![i](http://x/y) <script>alert(1)</script> <img src=x onerror=alert(1)> "
    "{{ 7*7 }} \"'> ](x)\r\n\r\n# heading\n- item\n| a | b |\n\t\u202eturned\u2028 \ud800 \x00 ${jndi} ../../../x"
)
STORED = HOSTILE.replace("\ud800 ", "")  # half a character, which no stored file can hold
hostile = st.sampled_from([HOSTILE, *HOSTILE.split(" ")]) | st.text(max_size=40)
markdown_parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def obeyed(text: str, keep: str = "\n") -> list[str]:
    """What a terminal would obey."""
    return [c for c in text if (unicodedata.category(c) in ("Cc", "Cs") and c not in keep) or c in "\u202e\u2066"]


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_a_terminal_obeys_nothing(text: str) -> None:
    assert obeyed(escaping.terminal(text)) == obeyed(escaping.one_line(text), keep="") == []
    plain = "".join(c for c in text if c.isprintable())
    assert escaping.terminal(plain) == escaping.one_line(plain) == plain


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_rich_reads_no_markup_whoever_prints_it(text: str) -> None:
    console = Console(width=10_000, record=True, file=io.StringIO())
    console.print(escaping.rich(text))
    plain_console = escaping.PlainConsole(width=10_000, record=True, file=io.StringIO())
    plain_console.print(text)
    whole = [line.rstrip() for line in escaping.terminal(text).split("\n")]
    for printed in (console, plain_console):
        assert [line.rstrip() for line in printed.export_text().split("\n")][: len(whole)] == whole


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_markdown_is_text(text: str) -> None:
    shown, cell = escaping.markdown(text), escaping.markdown(text, begins=False)
    for source, around in ((shown, ""), (f"- {shown}", ""), (f"| a |\n| --- |\n| {cell} |", "a")):
        (found, kinds) = read_markdown(source)
        assert kinds <= {"text", "text_special", "softbreak"}, (kinds, shown)
        assert squeezed(found) == squeezed(around + escaping.one_line(text))


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_code_in_markdown_is_one_span(text: str) -> None:
    found, kinds = read_markdown(f"x{escaping.markdown_code(text)}")
    assert kinds <= {"text", "code_inline"} and squeezed(found) == squeezed("x" + escaping.one_line(text))


def read_markdown(source: str) -> tuple[str, set[str]]:
    """All that it shows, and of what kinds that is."""
    inline = [child for token in markdown_parser.parse(source) for child in token.children or ()]
    blocks = {t.type for t in markdown_parser.parse(source)} - {"inline"}
    allowed = r"(paragraph|bullet_list|list_item|table|thead|tbody|tr|th|td)_(open|close)"
    assert all(re.fullmatch(allowed, block) for block in blocks), blocks
    return "".join(child.content for child in inline), {child.type for child in inline}


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


_SPECIAL = re.compile(r"\\[{}$&#_%]|\\text(?:backslash|asciitilde|asciicircum)\{\}|\$(?:[<>|-]|\\pm)\$")


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_latex_has_no_command_but_ours(text: str) -> None:
    for shown in (escaping.latex(text), escaping.latex_comment(text)[2:] and escaping.latex(text)):
        rest = _SPECIAL.sub("", shown)
        assert not set(rest) & set("\\{}$&#_%~^<>\n"), rest
    assert "\n" not in escaping.latex_comment(text)


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(hostile | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53), min_size=1, max_size=4))
def test_a_spreadsheet_reads_no_formula_and_numbers_stay_numbers(cells: list[Any]) -> None:
    text = escaping.csv(pd.DataFrame([cells], columns=[f"={n}" for n in range(len(cells))], dtype=object))
    header, row = csv.reader(io.StringIO(text))
    assert all(heading.startswith("'=") for heading in header)
    for cell, given_cell in zip(row, cells, strict=True):
        if isinstance(given_cell, int | float):
            assert float(cell) == given_cell
        else:
            assert not cell.strip().startswith(tuple("=+-@\uff1d")) or re.fullmatch(
                r"[+-]?[\d.]+(e[+-]?\d+)?", cell, re.I
            )
            assert obeyed(cell, keep="") == []


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_matplotlib_draws_a_label_as_it_is(text: str) -> None:
    from matplotlib.cbook import is_math_text

    label = escaping.mathtext(text)
    assert not is_math_text(label) and not label.startswith("_") and obeyed(label, keep="") == []
    assert label.replace(r"\$", "$").lstrip() == escaping.one_line(text).lstrip()


@settings(max_examples=60, deadline=None)
@given(text=hostile, other=hostile)
def test_a_file_name_stays_in_its_folder_and_is_its_own(text: str, other: str) -> None:
    name = escaping.file_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_,=+][A-Za-z0-9_.,=+-]{0,79}", name) or re.fullmatch(r"[0-9a-f]{8}", name), name
    assert (escaping.file_name(other) == name) == (other == text)


# --- one hostile string through every output -----------------------------------------------------


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose words are hostile wherever its file may say something, with two methods and a finished run each."""
    folder = tmp_path / "studies" / "tiny"
    monkeypatch.setenv("SNN_EXP_STUDIES", str(folder.parent))
    folder.mkdir(parents=True)
    words = STORED.replace("\x00", "")  # nor can YAML hold that
    content = {
        "question": words, "note": words, "seeds": [0, 1], "budget_core_hours": 1, "reference": "bn",
        "base": ["logger=none"], "methods": {"bn": ["norm=bn"], "psp": ["norm=psp"], "none": ["norm=none"]},
        "exclude": {"*/none": words}, "claims": [{"says": words, "test": "higher", "of": "psp", "than": "bn"}],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    for seed in (0, 1):
        for norm in ("bn", "psp"):
            split = split_of(compose([f"norm={norm}", f"seed={seed}"]))
            store(
                f"norm={norm}",
                f"seed={seed}",
                split=split,
                acc=0.9 + seed / 100 + (norm == "psp") * seed / 50,
                work=1.0 + seed,
            )
    return folder


def harmless_markdown(text: str) -> None:
    images = set(re.findall(r"!\[[\w.-]+\]\(figures/[\w.-]+\.png\)", text))
    for picture in images:
        text = text.replace(picture, "")
    text = re.sub(r"\[\d+\]\(#claim-\d+\)", "", text)  # of our own, to further down
    tokens = markdown_parser.parse(text)
    kinds = {child.type for token in tokens for child in token.children or ()} | {token.type for token in tokens}
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "fence", "code_block"}, kinds
    assert obeyed(text) == []


def test_a_studys_page_shows_hostile_words_and_obeys_none(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = write(runner.survey(load("tiny"))).read_text()
    harmless_markdown(page)
    assert "alert(1)" in page and "<script" not in page and page.count("\n# ") == 0
    assert main.main(["report", "tiny", "--format", "html,md,tex,csv"]) == 0
    assert obeyed(capsys.readouterr().out) == []
    assert main.main(["study"]) == 0
    assert main.main(["study", "tiny", "--plan"]) == 0
    assert obeyed(capsys.readouterr().out) == []
    written = next((study.parent.parent / "out" / "reports").iterdir())
    harmless_markdown((written / "report.md").read_text())
    assert "<script>alert" not in (written / "report.html").read_text()


def test_a_report_of_stored_runs_shows_hostile_names_and_obeys_none(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        for name in ("plain", STORED):
            folder = store(
                f"seed={seed}", f"norm={'bn' if name == 'plain' else 'psp'}", acc=0.9 + seed / 100, work=1.0 + len(name)
            )
            for file in ("result.json", "manifest.json"):
                content = json.loads((folder.path / file).read_text())
                content["config"]["network"]["note"] = name
                content["config"]["energy"]["name"] = name
                if file == "manifest.json":
                    content |= {"code": name, "versions": {"torch": name}, "hardware": {"machine": name}}
                (folder.path / file).write_text(json.dumps(content))
            lines = folder.metrics_csv.read_text().replace("firing_rate/a", "firing_rate/$\\frac{$ _a [/]")
            folder.metrics_csv.write_text(lines)
    failed = store("norm=psp", "seed=7")
    (failed.path / "result.json").unlink()
    (failed.path / "failure.json").write_text(json.dumps({"error": STORED}))
    assert main.main(["runs"]) == 0
    asked = ["--by", "network.note", "--format", "html,md,tex,csv,png,pdf"]
    assert main.main(["report", "dataset=digits", *asked]) == 0
    said = capsys.readouterr()
    assert obeyed(said.out) == obeyed(said.err) == [] and "[/] [bold]:smile:" in said.out
    (written,) = (output / "reports").iterdir()
    harmless_markdown((written / "report.md").read_text())
    for line in (written / "report.tex").read_text().splitlines():
        assert not re.search(r"(?<!\\)\\(input|frac)\b", line)
    page = (written / "report.html").read_text()
    assert "<script>alert" not in page and "<img" not in page and "{{" in page and obeyed(page, keep="\n\t") == []
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)  # our own, which no name has broken
    for table in (written / "report.csv", *(written / "figures").glob("*.csv")):
        for row in csv.reader(io.StringIO(table.read_text())):
            assert not [cell for cell in row if cell.startswith(("=", "@", "\t"))], table
    assert {path.suffix for path in (written / "figures").iterdir()} == {".csv", ".png", ".pdf"}
    assert {path.name for path in output.iterdir()} <= {"runs", "reports", ".gitignore"}


def test_panels_and_lines_of_any_name_are_drawn_into_their_folder(tmp_path: Path) -> None:
    from snn_exp.reporting import documents
    from tests.studies.test_judging import rows

    found = rows(0.9, more={"test/energy_pj": 100.0})
    for row in found.values():
        row.result.config.update({"encoding": {"num_steps": 1}, "depth": {"num_layers": 8}})  # type: ignore[attr-defined]
    dear = {
        seed: Row(
            **{
                **vars(row),
                "result": SimpleNamespace(
                    **{**vars(row.result), "metrics": {**row.result.metrics, "test/energy_pj": 900.0}}
                ),
            }
        )
        for seed, row in found.items()
    }
    panels = [
        Panel(name, "", [Line({"method": HOSTILE}, found), Line({"method": "_x"}, dear)], {})
        for name in (HOSTILE, "../../x")
    ]
    shown = Comparison(HOSTILE, "test/acc", panels, EnergyConfig(name=HOSTILE))
    written = documents.write(documents.Report(shown, HOSTILE), tmp_path / "here", ["md", "tex", "csv", "png"])
    assert all(path.resolve().is_relative_to(tmp_path / "here") for path in written) and len(written) >= 5
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_nothing_is_printed_but_through_say_and_a_plain_console() -> None:
    package = Path(escaping.__file__).parent
    ours = {"escaping.py", "runs/interrupts.py", "training/log.py"}  # the way out, a clean line, figures alone
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.relative_to(package).as_posix() not in ours
        for line in path.read_text().splitlines()
        if re.search(r"(?<![.\w])print\(|(?<!Plain)Console\(", line) and ">>>" not in line and "HELP" not in line
    ]
    assert found == []


def test_an_error_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([HOSTILE]) == 2
    assert obeyed(capsys.readouterr().err) == []
