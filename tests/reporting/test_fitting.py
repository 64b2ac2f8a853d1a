"""Tables in a narrow terminal: columns are left out and named, prose is wrapped at words, no value is cut."""

from __future__ import annotations

import io
import re

import pytest
from rich.table import Table

from snn_exp.cli.main import main
from snn_exp.escaping import PlainConsole
from snn_exp.reporting import fitting
from tests.stored import store

WORDS = {"run": "0123456789", "what": "lif bn with a good many words of prose", "AC": "1,234,567", "CPU s": "98,765"}


def table() -> Table:
    made = Table(*WORDS)
    made.add_row(*WORDS.values())
    return made


def printed(width: int) -> str:
    file = io.StringIO()
    fitting.show(table(), PlainConsole(file=file, width=width), ("CPU s", "AC"), ("what",), "--json prints all")
    return file.getvalue()


@pytest.mark.parametrize("width", range(8, 100))
def test_no_line_is_too_long_and_what_is_not_left_out_is_whole(width: int) -> None:
    said = printed(width)
    assert all(len(line) <= width for line in said.splitlines()) and "…" not in said
    named = " ".join(said.partition("without room")[2].split())
    if width >= 32:  # room for the run and for prose
        assert all(WORDS[heading] in said or heading in named for heading in ("run", "CPU s", "AC"))


@pytest.mark.parametrize("width", range(8, 32))
def test_where_even_what_stays_has_no_room_a_value_goes_on_below(width: int) -> None:
    cells = [line.split("│")[1].strip() for line in printed(width).splitlines() if line.startswith("│")]
    assert "".join(cells) == WORDS["run"]


def test_columns_are_left_out_in_the_order_that_is_given_and_how_to_see_them_is_said() -> None:
    assert "without room" not in printed(80)
    said = " ".join(printed(54).split())
    assert "without room at 54 columns: CPU s; a wider terminal has all, and --json prints all" in said
    assert "without room at 44 columns: CPU s, AC; a wider" in " ".join(printed(44).split())


COMMANDS = ("runs", "runs --columns run,neuron,test/acc,ended,optim.lr,dataset,norm", "options", "options neuron", "options neuron=lif", "options dataset",
            "data", "plan -m neuron=lif,plif norm=bn,psp seed=0,1")  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("line", COMMANDS)
def test_the_table_of_a_command_fits_into_the_columns_that_there_are(
    line: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [store("dataset=digits_200", f"seed={seed}", acc=0.123456).path.name for seed in (1, 2)]
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(line.split()) == 0
    said = capsys.readouterr().out
    assert [each for each in said.splitlines() if re.match("[┏┃┡│├└]", each) and len(each) > width] == []
    assert "…" not in said
    if line.startswith("runs"):
        assert all(run in said for run in runs)
        assert ("12.35" if line == "runs" else "0.1235") in said


def test_where_there_is_no_terminal_no_column_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store("dataset=digits_200")
    monkeypatch.delenv("COLUMNS", raising=False)
    columns = "run,neuron,norm,dataset,optim.lr,optim.schedule,network.width,ended,test/acc,val/acc,trainer.max_epochs,residual"
    assert main(["runs", "--columns", columns]) == 0
    said = capsys.readouterr().out
    assert all(column in said for column in columns.split(",")) and "without room" not in said
