"""The finished runs of a study in one file that is committed: studies/<name>/results.jsonl. No torch.

Each line is a run: its result without the metrics and operations of single layers, its curves over the epochs, and its
versions and hardware. Lines are only ever appended, so work done on one machine is not lost on the next.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from snn_exp.errors import say_once
from snn_exp.runs.row import Row, read_rows, row_of_line


class Ledger:
    """The rows of one file, by run id.

    A damaged line is reported and skipped: its run counts as not done, is trained again and appended.

    Args:
        path: of the file; it need not exist.

    Raises:
        Unreadable: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        try:
            lines, damaged = read_rows(path, path.parent)
        except FileNotFoundError:
            return
        for reason in damaged:
            say_once(f"left out: {path}, {reason}; remove that line; its run counts as not done")
        for line in lines:
            self.rows.setdefault(line.run_id, Row.of_stored(line))

    def add(self, row: Row) -> None:
        """Append a row, unless the file has its run already."""
        if row.result.run_id in self.rows:
            return
        self.rows[row.result.run_id] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may work on the same study, and have added it
            file.seek(0)
            content = file.read()
            if _is_in(content, row.result.run_id):
                return
            whole, _, last = content.rpartition(b"\n")
            if last and not _is_row(last):  # the last write was cut short
                file.truncate(len(whole) + 1 if whole else 0)
                last = b""
            line = json.dumps(row.to_plain(), separators=(",", ":")) + "\n"
            file.write(b"\n" * bool(last) + line.encode())


def _is_in(content: bytes, run_id: str) -> bool:
    """Return whether a run has a row, and not only a damaged line."""
    return any(run_id.encode() in line and _is_row(line) for line in content.split(b"\n"))


def _is_row(line: bytes) -> bool:
    try:
        row_of_line(line)
    except ValueError:
        return False
    return True
