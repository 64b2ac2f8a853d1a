"""Any locale: files are UTF-8 wherever they are written, and a terminal that lacks a character gets a plainer one."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from snn_exp.cli.main import main
from tests.stored import store

PACKAGE = Path(__file__).parent.parent / "snn_exp"
TEXT = re.compile(r"\.(?:read_text|write_text)\(|\.open\(\"[arwx]\"")


def test_every_text_file_is_read_and_written_in_a_named_encoding() -> None:
    lines = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if TEXT.search(line) and "encoding=" not in line
    ]
    assert lines == []


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "+-"), ("iso8859-1", "±"), ("utf-8", "±")])
def test_a_report_is_printed_in_whatever_encoding_the_terminal_has(
    encoding: str, shown: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, acc in enumerate((0.9, 0.95)):
        store("neuron=lif", f"seed={seed}", acc=acc)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    assert main(["report", "neuron=lif", "--by", "norm", "--format", "md"]) == 0
    said = raw.getvalue().decode(encoding)
    assert f"92.50 {shown} 3.54" in said
    rows = [line for line in said.splitlines() if line and line[0] in "|+│┃"]
    assert len({len(line) for line in rows}) == 1 and len(rows) >= 2, "the columns stand below each other"
    assert any("±" in page.read_text(encoding="utf-8") for page in output.rglob("*.md")), "its files are UTF-8"
