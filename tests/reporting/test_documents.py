"""A report as files: the same numbers in each, and one page that holds everything."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from snn_exp.cli import main
from snn_exp.reporting import charts
from tests.stored import store

ASKED = ["report", "dataset=digits", "--versus", "norm=bn"]


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    store("norm=bn", "seed=10")
    return tmp_path


@pytest.fixture
def runs(output: Path) -> Path:
    for seed in range(3):
        for depth in ("d8", "d20"):
            store("norm=bn", f"depth={depth}", f"seed={seed}", acc=0.9 + 0.01 * seed)
            store("norm=psp", f"depth={depth}", f"seed={seed}", acc=0.92 + 0.012 * seed, work=3.0)
    return output


def test_each_format_is_written_and_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*ASKED, "--format", "md,tex,csv,pdf"]) == 0
    said = capsys.readouterr().out
    folder = runs / "reports" / "dataset=digits_versus=norm=bn"
    for name in ("report.md", "report.tex", "report.csv", "figures/depth.pdf"):
        assert f"written: {folder / name}\n" in said and (folder / name).exists()
    assert (folder / "figures" / "depth.pdf").read_bytes().startswith(b"%PDF")
    means = pd.read_csv(folder / "report.csv").set_index("line")["mean"]
    assert means["psp d8"] == pytest.approx(0.932)
    assert "| psp d8 | 93.20 ± 1.20 | 3 |" in (folder / "report.md").read_text()
    latex = (folder / "report.tex").read_text()
    assert r"psp d8 & 93.20 $\pm$ 1.20 & 3" in latex and r"\toprule" in latex and "±" not in latex


def test_the_page_holds_everything_and_asks_for_nothing(runs: Path) -> None:
    assert main.main(ASKED) == 0
    folder = runs / "reports" / "dataset=digits_versus=norm=bn"
    page = (folder / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page), "a link that leaves the page"
    drawn = re.findall(r'<figure id="(\w+)"><div class="still[^>]*><svg', page)
    assert drawn == [
        f"{name}{'' if name == 'depth' else '_digits'}" for name in ("depth", "pareto", "curves", "heat", "layers")
    ]
    commands = dict(re.findall(r'id="command-(\d+)"><code>(snn-exp train [^<]*)</code>', page))
    named = re.findall(r'href="#command-(\d+)">[^<]*</a>, <code>seed=(\d+)</code>', page)
    assert len(named) == 13 and len(commands) == 4, "each run with the command that repeats it, one for all seeds"
    seeds = {number: set(re.search(r"seed=([\d,]+)$", command)[1].split(",")) for number, command in commands.items()}
    assert all(seed in seeds[number] for number, seed in named)
    links = dict(re.findall(r'download="([^"]+)\.csv" href="data:text/csv;base64,([^"]+)"', page))
    assert len(links) == 5
    for name, data in links.items():
        inside = pd.read_csv(io.StringIO(base64.b64decode(data).decode()))
        pd.testing.assert_frame_equal(inside, pd.read_csv(folder / "figures" / f"{name}.csv"))


def test_the_library_of_the_charts_is_inside_once_and_whole(runs: Path) -> None:
    assert main.main(ASKED) == 0
    page = (runs / "reports" / "dataset=digits_versus=norm=bn" / "report.html").read_text()
    (packed,) = re.findall(r'<script type="text/plain" id="bokeh">([^<]*)</script>', page)
    scripts = gzip.decompress(base64.b64decode(packed)).decode()
    assert "Copyright (c) Anaconda, Inc., and Bokeh Contributors" in scripts, "its licence goes with it"
    assert f'version="{charts.library()[0]}"' in scripts.replace(" ", "") and f"Bokeh {charts.library()[0]}," in page
    for spec in map(json.loads, re.findall(r'<script type="application/json" class="chart">(.*?)</script>', page)):
        assert {"kind", "x", "y", "axes", "looks"} <= set(spec)


def test_the_best_line_stands_first_in_the_page_with_the_mark_of_its_figures(runs: Path) -> None:
    assert main.main(ASKED) == 0
    page = (runs / "reports" / "dataset=digits_versus=norm=bn" / "report.html").read_text()
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    found = [
        (name, float(mean)) for name, mean in re.findall(r'</svg>(\w+ d\d+)</td>\n<td data-number="([^"]+)"', table)
    ]
    assert len(found) == 4 and [mean for _, mean in found] == sorted((mean for _, mean in found), reverse=True)
    assert page.partition("<tbody>")[0].count('aria-sort="descending"') == 1
    assert main.main([*ASKED, "--metric", "test/energy_pj"]) == 0
    (asked,) = runs.glob("reports/*energy_pj*/report.html")
    page = asked.read_text()
    assert 'aria-sort="ascending"' in page.partition("<tbody>")[0], "of costs the lowest"


def test_what_a_run_says_is_escaped(output: Path) -> None:
    failed = store("norm=psp", "seed=9")
    (failed.path / "result.json").unlink()
    (failed.path / "failure.json").write_text('{"error": "<script>alert(1)</script>"}')
    assert main.main(ASKED[:2]) == 0
    page = (output / "reports" / "dataset=digits" / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "psp_dept"], "There is no study 'psp_dept'; allowed:"),
        (
            ["report", "dataset=digits", "--format", "doc"],
            "There is no format 'doc'; allowed: csv, html, md, pdf, png, tex",
        ),
        (
            ["report", "dataset=digits", "--versus", "bn"],
            "--versus bn is not a key=value pair; type --versus norm=bn, say",
        ),
        (["report", "nuron=lif"], "There is no key 'nuron'; allowed:"),
        (
            ["report", "dataset=digits", "--margin", "-1"],
            "--margin -1 is no margin of an equivalence test; a margin is a number above 0 in the metric's unit; type",
        ),
        (["report", "psp_firing", "--margin", "0"], "--margin 0 is no margin of an equivalence test"),
        (["report", "dataset=digits", "--margin", "nan"], "--margin nan is no margin of an equivalence test"),
        (["report", "psp_firing", "--by", "norm"], "the lines of study psp_firing are its methods; leave --by out"),
        (["report", "psp_firing", "--versus", "bnn"], "There is no method of study psp_firing 'bnn'"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    assert main.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"snn-exp: {sentence}")
    assert not (output / "reports").exists()
