"""Files that somebody may have sent: read within bounds, or refused in a sentence at once."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snn_exp.errors import UserError
from snn_exp.files import MAX_YAML, Unreadable, is_within, printable, read_bytes, read_text, read_yaml


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    begun = time.perf_counter()
    yield
    assert time.perf_counter() - begun < 5


def test_a_file_is_read_and_one_that_is_not_there_is_no_fault_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("é")
    assert read_text(tmp_path / "a", 2, tmp_path) == "é"
    for missing in (tmp_path / "b", tmp_path / "a" / "b"):
        with pytest.raises(FileNotFoundError):
            read_bytes(missing, 10, tmp_path)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, reason in {
            "pipe": "is a named pipe, not a file",
            "folder": "is a folder, not a file",
            "socket": "is a socket, not a file",
            "loop": "symbolic links",
            "nothing": "is a broken link",
            "x" * 300: "File name too long",
            "nul\0": "null",
        }.items():
            with pytest.raises(Unreadable, match=reason):
                read_bytes(tmp_path / name, 10)
    with pytest.raises(Unreadable, match="is a device, not a file"):
        read_bytes("/dev/zero", 10)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a").write_text("x")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unreadable, match=r"cannot be read \(Permission denied\)"):
        read_bytes(tmp_path / "a", 10)


def test_a_link_may_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "a").write_text("a")
    (inside / "near").symlink_to("a")
    (inside / "far").symlink_to(tmp_path / "secret")
    (inside / "folder").symlink_to(tmp_path)
    assert read_bytes(inside / "near", 10, inside) == b"a"
    assert read_bytes(inside / "far", 10) == b"s", "where no folder is named, links are followed"
    for path in (inside / "far", inside / "folder" / "secret", inside / ".." / "secret", inside / "sub/../../secret"):
        with pytest.raises(Unreadable, match="leads out of"):
            read_bytes(path, 10, inside)
    (tmp_path / "linked").symlink_to(inside)  # the folder itself may be a link
    assert read_bytes(tmp_path / "linked" / "a", 10, tmp_path / "linked") == b"a"
    assert not is_within(tmp_path / "inside2", inside)


def test_a_file_is_no_larger_than_its_kind_can_be_and_is_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff" * 11)
    with pytest.raises(Unreadable, match=r"is larger than .* MiB, the limit for such a file"):
        read_bytes(tmp_path / "a", 10)
    with pytest.raises(Unreadable, match=r"is not UTF-8 text \(byte 0\)"):
        read_text(tmp_path / "a", 100)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, r"is refused: more than 100,000 values, each alias counted as what it stands for"),
        ("a: &a\n" + "".join(f"b{n}: &b{n} {{<<: [*a, *a]}}\n" for n in range(9)) + "[", "is broken YAML"),
        ("[" * 100_000, "is refused: lists and mappings nested more than 50 deep"),
        ("- " * 100_000, "is refused: lists and mappings nested more than 50 deep"),
        ("? " * 100_000, "is refused: lists and mappings nested more than 50 deep"),
        ("{a: " * 100_000, "is refused: lists and mappings nested more than 50 deep"),
        ("x\n" * (MAX_YAML // 2 + 1), "is larger than 1 MiB"),
        ("[" + "x," * (MAX_YAML // 2 - 1) + "]", "more than 100,000 values"),
        ("a: &a [*a]", r"the alias \*a stands for something that holds itself"),
        ("a: &a {<<: *a}", r"the alias \*a stands for something that holds itself"),
        ("a: *b", "is broken YAML: found undefined alias"),
        ("a: !!timestamp x", "is broken YAML: it has a tag whose value is of another kind"),
        ("a: 1\na: 2", "the key 'a' occurs twice, line 1, column 1"),
        ("a: " + "9" * 5000, "a number of 5,000 characters, line 1, column 4"),
        ("a: 0x" + "f" * 5000, "a number of 5,002 characters"),
        ("a: 1" + ":1" * 200_000, "a number of 400,001 characters"),
        ("a: 1." + "9" * 5000, "a number of 5,002 characters"),
        ("a: 2024-13-41", "is broken YAML: month must be in 1..12"),
        ("? [a]\n: 1", "found a key that is not a word"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor for the tag"),
        ("a: [1", "is broken YAML: while parsing a flow sequence"),
        ("a: \x1b[31m", "is broken YAML: .*control characters are not allowed"),
        ("--- 1\n--- 2", "expected a single document"),
        ("%YAML 9.1\n--- 1", "found incompatible YAML document"),
        ("a: &\x00", "is broken YAML"),
    ],
    ids=range(25),
)
def test_yaml_that_no_one_writes_is_refused_in_a_sentence(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as refusal:
        read_yaml(path)
    assert str(refusal.value).startswith(f"{path} ") and "\n" not in str(refusal.value)


def test_yaml_that_people_write_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {b: 1, c: 2.5}\nd: [*a, *a]\ne: {<<: *a, b: 3}\nf: 1/12\ng:\nh: 2024-01-01\n")
    read = read_yaml(path)
    assert read["d"] == [{"b": 1, "c": 2.5}] * 2 and read["e"] == {"b": 3, "c": 2.5}
    assert read["f"] == "1/12" and read["g"] is None and read["h"].year == 2024


def test_a_refusal_comes_back_from_another_process_as_it_was(tmp_path: Path) -> None:
    refusal = Unreadable(tmp_path / "a", "is a folder, not a file")
    assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)


def test_text_is_shown_on_one_line_that_no_terminal_obeys() -> None:
    assert printable("a\n\x1b[2Jb") == r"a\n\x1b[2Jb"
    assert len(printable("x" * 10_000)) == 80
