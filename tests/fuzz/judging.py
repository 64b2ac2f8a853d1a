"""What every call must keep to; `faults` names what it did not."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping, Sequence

from tests.fuzz import calls, hostile
from tests.fuzz.box import Box
from tests.fuzz.calls import LIMIT_S, MEMORY, Call, Outcome

CODES = (0, 1, 2, 130)
CACHE = ("out/fingerprints", "out/fingerprints/*")  # of data that were read: any command may keep one
LONGEST = 4000  # characters of a refusal

# words of the parser's, of OmegaConf's, Hydra's and pydantic's own developers, and of Python's
FOREIGN = re.compile(
    r"mismatched input|extraneous input|no viable alternative|missing \S+ at '|token recognition|LexerNoViable|antlr|omegaconf|OmegaConf|ListConfig"
    r"|DictConfig|AnyNode|ValidationError|ConfigCompositionException|ConfigAttributeError|InterpolationKeyError|full_key:|object_type=|pydantic"
    r"|Input should be|input_value=|errors\.pydantic|hydra\.(core|_internal|errors)|HYDRA_FULL_ERROR|Set the environment variable"
    r"|\bNoneType\b|not subscriptable|has no attribute|unexpected keyword|takes \d+ positional|invalid literal for|object at 0x|<class '|unhashable"
    r"|not iterable|codec can't|surrogates not allowed|\bint too large|recursion depth|Expecting value|Expecting ',' delimiter|Extra data"
    r"|could not convert string|Traceback|not supported between|to unpack|cannot unpack|unpack requires|must be real number|out of range for|size mismatch for|Missing key\(s\) in"
    r"|Interpolation key|Recursive interpolation|resolving interpolation|malformed node|BasicSweeper|[A-Z]+_SWEEP|PytorchStreamReader|weights_only|[Uu]npickl(?!ed)|\bdtype\b|not JSON serializable|\[Errno"
)
CLASS_NAME = re.compile(r"\b[A-Z][A-Za-z]+(?:Error|Exception)\b")
WARNING = re.compile(r"^.*\.py:\d+: \w*Warning: .*$", re.M)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def faults(box: Box, asked: Call, got: Outcome, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """One sentence per promise that was broken, the gravest first; each begins with a word for its kind."""
    found = []
    if got.acts:
        found.append(f"act: {'; '.join(dict.fromkeys(got.acts))[:400]}")
    found += _changes(asked, before, after)
    if got.killed:
        found.append(
            f"{'memory' if 'GiB' in got.killed else 'hang' if 'wait' in got.killed else 'slow' if 'took' in got.killed else 'died'}: {got.killed}"
        )
    elif got.error:
        found.append(f"traceback: {_last_line(got.error)}  [{_place(got.error)}]")
    elif (
        got.code not in CODES
        and not (asked.signals and got.code in (129, 143))
        and not (asked.stdout == "pipe" and got.code == 141)
    ):
        found.append(f"code: {got.code}")
    elif asked.signals and got.code == 1:
        found.append("code: 1 after a signal")
    elif got.code in CODES and got.code not in asked.must and not asked.signals:
        found.append(f"dies: of a folder that it need not read: {got.err[:300]!r}")
    if not got.killed and got.cpu_s > LIMIT_S:
        found.append(f"slow: {got.cpu_s:.1f} s")
    if got.memory > MEMORY:
        found.append(f"memory: {got.memory / 2**30:.1f} GiB")
    if not got.error and not got.killed:
        found += _words(asked, got)
    # only what trains may fail
    if got.code == 1 and not found and not {"train", "study", "verify", "doctor"} & {*asked.argv}:
        found.append(f"one: {got.err[:400]!r}")
    found += _stored_failures(box, before, after)
    found += _pages(box, after)
    return found


def _last_line(error: str) -> str:
    return next((line for line in reversed(error.splitlines()) if line.strip() and not line.startswith(" ")), "?")[:200]


def _place(error: str) -> str:
    """The innermost line of ours, and the innermost of all."""
    lines = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', error)
    ours = [f"{file.rpartition('/snn_exp/')[2]}:{name}" for file, _, name in lines if "/snn_exp/" in file]
    return f"{ours[-1] if ours else '?'}; {lines[-1][2] if lines else '?'}"


def _changes(asked: Call, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    found = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        if path.startswith("canary"):
            found.append(f"executed: {path}")
        elif _is_one(path, asked.keeps) or not _is_one(path, (*asked.may_change, *CACHE)):
            what = "made" if path not in before else "removed" if path not in after else "changed"
            found.append(f"changed: {what} {path}")
    return found[:5]


def _is_one(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _words(asked: Call, got: Outcome) -> list[str]:
    """What is said: in our words, in one sentence, and nothing that a terminal would obey."""
    found = []
    if got.code is not None and got.code > 128 and asked.signals and not got.err.rstrip().splitlines()[-1:]:
        found.append("silent: nothing is said after a signal")
    if got.code == 2 and not got.err.startswith("snn-exp: "):
        found.append(f"silent: exit code 2 and stderr begins with {got.err[:80]!r}")
    if got.code == 2 and (longest := max(map(len, got.err.splitlines()), default=0)) > LONGEST:
        found.append(f"long: a refusal of {longest} characters")
    if got.code not in (0, 130) and calls.PLANNED in got.out:
        found.append(f"planned: plan allows it, and then: {got.err[:300]!r}")
    given = " ".join(asked.argv)
    said = f"{got.out}\n{got.err}"
    # what is asked of Hydra itself, it answers in its own words; doctor names packages
    hydras = got.code == 0 and any(
        word in asked.argv for word in ("--cfg", "-c", "--info", "-i", "--hydra-help", "doctor")
    )
    for pattern, kind in () if hydras else ((FOREIGN, "foreign"), (CLASS_NAME, "foreign"), (WARNING, "warning")):
        match = next((m for m in pattern.finditer(said) if m.group() not in given), None)
        if match:
            line = said[said.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
            found.append(f"{kind}: {match.group()[:80]!r} in {line[:300]!r}")
            break
    if match := CONTROL.search(said.replace("\r\n", "\n")):
        start = max(0, match.start() - 60)
        found.append(f"control: {said[start : match.end() + 40]!r}")
    return found


def _stored_failures(box: Box, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A crash that was stored as why a run failed is a crash nevertheless."""
    found = []
    for path, content in after.items():
        if path.endswith("/failure.json") and content not in before.values() and content.startswith("file"):
            try:
                stored = json.loads((box.root / path).read_text())
            except (OSError, ValueError):
                continue
            if "UserError" not in str(stored.get("traceback")):
                found.append(f"stored: {str(stored.get('error'))[:200]} [{_place(str(stored.get('traceback')))}]")
    return found


def _pages(box: Box, after: Mapping[str, str]) -> list[str]:
    """What was written for others to read: nothing of what a file brought may act in it."""
    bad = {
        ".html": hostile.SCRIPT, ".md": "<script>alert", ".tex": hostile.LATEX,
    }  # fmt: skip
    found = []
    for path, content in after.items():
        if not path.startswith(("out/reports/", "out/dashboards/")) or not content.startswith("file"):
            continue
        file = box.root / path
        if file.suffix in bad and bad[file.suffix] in file.read_text(errors="replace"):
            found.append(f"unescaped: {bad[file.suffix]!r} in {path}")
        if file.suffix == ".csv":
            import csv

            with file.open(errors="replace", newline="") as lines:
                cells = [cell for row in csv.reader(lines) for cell in row]
            if formula := next((c for c in cells if re.match(r"[=@\t\r]|[+-](?![\d.]|inf|nan|$)", c)), None):
                found.append(f"unescaped: a formula {formula[:60]!r} in {path}")
    return found[:2]
