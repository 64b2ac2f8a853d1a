"""The locks: a run is installed in the versions that the tests run in, and without what only tests and event data need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pinned(lock: str) -> set[tuple[str, str]]:
    """Name and version of each package; one with two versions, for two Pythons, stands there twice."""
    return set(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def test_a_run_is_installed_in_the_versions_that_the_tests_run_in() -> None:
    run, with_tests = pinned("run.lock"), pinned("base.lock")
    assert len(run) > 50 and run < with_tests


def test_a_run_is_installed_without_what_tests_and_event_data_need() -> None:
    names = {name for name, _ in pinned("run.lock")}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = declared["project"]["optional-dependencies"]
    heavy = {re.split(r"[<>=]", asked)[0] for extra in groups for asked in groups[extra]}
    assert not names & (heavy | {"numba", "llvmlite", "librosa"})
    asked = {
        re.split(r"[<>=]", one)[0]
        for one in declared["project"]["dependencies"] + declared["dependency-groups"]["setup"]
    }
    assert asked <= names


@pytest.mark.parametrize("lock", sorted(path.name for path in (ROOT / "requirements").glob("*.lock")))
def test_every_package_has_its_hashes_and_no_lock_names_an_index(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\w)", text.strip()))
