"""Write a comparison to files: a self-contained HTML page, Markdown, LaTeX, CSV, figures for a paper. No torch.

All tables and figures of all files come from the same numbers; the data of each figure are saved beside it as CSV.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from snn_exp import escaping
from snn_exp.config import compose
from snn_exp.config.command_line import command_line
from snn_exp.config.experiment import EnergyConfig, resolve
from snn_exp.errors import UserError, unknown
from snn_exp.files import require_within, write_text
from snn_exp.reporting import (
    charts,
    comparison,
    confusion,
    energies,
    figures,
    looks,
    mistakes,
    page_tables,
    per_class,
    tables,
)
from snn_exp.reporting.comparison import Comparison, Line, Panel, values
from snn_exp.reporting.figures import Picture
from snn_exp.reporting.formatting import is_cost, scale
from snn_exp.reporting.verdicts import Answer
from snn_exp.runs.filters import read, value_text
from snn_exp.runs.provenance import now
from snn_exp.runs.row import Row
from snn_exp.runs.store import selected

FORMATS = ("html", "md", "tex", "csv", "png", "pdf")


@dataclasses.dataclass(frozen=True)
class Report:
    """A report to be written.

    Args:
        comparison: the data.
        command: the command that writes it again.
        question: the question of a study, or what was asked.
        answers: to the study's claims.
        note: a caveat of the study, to be read first.
    """

    comparison: Comparison
    command: str
    question: str = ""
    answers: Sequence[Answer] = ()
    note: str = ""

    @functools.cached_property
    def headline(self) -> str:
        """Return the answer in a sentence or two."""
        if not self.answers:
            return tables.headline(self.comparison)
        holding = sum(answer.holds_everywhere for answer in self.answers)
        return f"{holding} of {len(self.answers)} claims hold everywhere. {tables.headline(self.comparison)}"


@dataclasses.dataclass(frozen=True)
class Asked:
    """The options of a report.

    Args:
        command: as typed.
        metric: what is compared; None: test/acc, or the metric of the study.
        by: choices that distinguish the lines; empty: all that differ.
        versus: key=value,..., or one of the study's methods; "": no comparison, or with the study's reference.
        margin: of equivalence tests, in the metric's unit.
        energy: the profile that prices stored runs; "": the default one.
    """

    command: str
    metric: str | None = None
    by: Sequence[str] = ()
    versus: str = ""
    margin: float | None = None
    energy: str = ""


def of_runs(filters: Sequence[str], asked: Asked) -> Report:
    """Report on the stored runs that match the filters.

    Raises:
        UserError: as `store.selected` and `comparison.of_runs`, or versus is not key=value.
    """
    chosen = selected(filters)
    if not chosen.runs and chosen.notes:
        raise UserError(f"{'; '.join(chosen.notes)}; snn-exp runs lists what is stored")
    found = comparison.of_runs(
        chosen.runs,
        title="Stored runs",
        metric=asked.metric or "test/acc",
        by=asked.by,
        versus=_versus(asked.versus),
        margin=asked.margin,
        profile=compose.compose([f"energy={asked.energy}"]).energy if asked.energy else EnergyConfig(),
    )
    found = dataclasses.replace(found, notes=[*chosen.notes, *found.notes])
    return Report(found, asked.command, f"{' '.join(filters)}: what do the stored runs say?")


def _versus(text: str) -> dict[str, str]:
    """Parse key=value,... into labels of a line, each value typed as in the config."""
    labels: dict[str, str] = {}
    for pair in re.split(r",(?=[^,=]+=)", text) if text else []:
        if "=" not in pair:
            raise UserError(f"--versus {pair} is not a key=value pair; type --versus norm=bn, say")
        asked = read(pair)
        if len(asked.conditions) > 1:
            raise UserError(f"--versus {pair} names several values; lines are compared with one: type one of them")
        (condition,) = asked.conditions
        named = asked.key == "method"
        labels |= {"method": condition.text.partition("=")[2]} if named else {
            key: value_text(value) for key, value in condition.demands.items()
        }  # fmt: skip
    return labels


def folder_name(what: Sequence[str]) -> str:
    """Return a folder name for a report.

    Args:
        what: the filters, or a study, and the options, each of which makes a different report.

    Example:
        >>> folder_name(["neuron=lif,plif", "norm=bn", "by=depth"])
        'neuron=lif,plif_norm=bn_by=depth'
    """
    return escaping.file_name("_".join(what))


def require_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not one of FORMATS.

    Raises:
        UserError: with the formats there are.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS, "--format {}")


def write(report: Report, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write the report in each format, and return the paths of the files to open.

    Args:
        report: the report.
        folder: where to.
        formats: of FORMATS.
    """
    require_within(folder / "figures", folder.parent).mkdir(parents=True, exist_ok=True)
    shown = report.comparison
    pictures = figures.pictures(shown)
    pictures += [found for panel in shown.panels if (found := confusion.confusion(shown, panel)) is not None]
    for picture in pictures:
        write_text(folder / "figures" / f"{picture.name}.csv", escaping.csv(picture.data))
    written = []
    for name in formats:
        if name in ("png", "pdf"):
            written += [picture.save(folder / "figures" / f"{picture.name}.{name}") for picture in pictures]
            continue
        text = {"html": _html, "md": _markdown, "tex": _latex, "csv": _csv}[name](report, pictures)
        if name == "md":
            for picture in pictures:
                picture.save(folder / "figures" / f"{picture.name}.png")
        path = folder / f"report.{name}"
        write_text(path, text)
        written.append(path)
    return written


def _csv(report: Report, pictures: Sequence[Picture]) -> str:
    return escaping.csv(tables.numbers(report.comparison))


def _markdown(report: Report, pictures: Sequence[Picture]) -> str:
    shown, plain, code = report.comparison, escaping.markdown, escaping.markdown_code
    parts = [f"# {plain(shown.title)}", plain(report.question)]
    parts += [f"**Note.** {plain(report.note)}"] if report.note else []
    parts += [plain(report.headline)]
    parts += ["\n".join(f"- **{plain(answer.summary)}**: {plain(answer.claim.says)}" for answer in report.answers)]
    all_headings: list[str] = []
    moved = False
    for panel in shown.panels:
        headings, rows = tables.table(shown, panel)
        all_headings += headings
        parts.append(f"## {plain(panel.name)}\n\n{code(panel.about)}\n\n{tables.of_entries(headings, rows)}")
        if (three := energies.table(shown, panel)) is not None:
            moved = True
            parts.append(f"{energies.TITLE}:\n\n{tables.of_entries(*three)}")
        if (of_classes := per_class.table(panel)) is not None:
            parts.append(f"{per_class.TITLE}:\n\n{tables.of_entries(*of_classes)}")
        if (mistaken := mistakes.table(panel)) is not None:
            parts.append(f"{mistakes.TITLE}:\n\n{tables.of_entries(*mistaken)}")
    parts.append(plain(tables.caption(shown, all_headings)))
    parts += [plain(energies.caption(shown))] if moved else []
    parts += [f"![{picture.name}](figures/{picture.name}.png)\n\n{plain(picture.caption)}" for picture in pictures]
    parts.append("\n".join(f"- {plain(gap)}" for gap in tables.gaps(shown)))
    parts.append(f"Made by {code(report.command)}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _latex(report: Report, pictures: Sequence[Picture]) -> str:
    r"""Format the tables for a paper that loads \usepackage{booktabs}."""
    shown = report.comparison
    parts = [f"{escaping.latex_comment(report.command)}\n% needs \\usepackage{{booktabs}}"]
    for number, panel in enumerate(shown.panels):
        title = f"{shown.title}, {panel.name}"
        parts.append(_latex_table(*tables.table(shown, panel), title, f"tab:{number}"))
        if (three := energies.table(shown, panel)) is not None:
            said = f"{title}: {energies.TITLE.lower()}"
            parts.append(_latex_table(*three, said, f"tab:{number}:energy"))
    return "\n".join(parts)


def _latex_table(headings: Sequence[str], rows: Sequence[Sequence[tables.Entry]], title: str, label: str) -> str:
    cells = [[escaping.latex(entry.text) for entry in row] for row in rows]
    frame = pd.DataFrame(cells, columns=[escaping.latex(heading) for heading in headings])
    text = frame.to_latex(
        index=False, escape=False, column_format="l" + "r" * (len(headings) - 1), position="t",
        caption=escaping.latex(title), label=label,
    )  # fmt: skip
    return text.replace(r"\begin{tabular}", "\\small\n\\begin{tabular}", 1)


def _html(report: Report, pictures: Sequence[Picture]) -> str:
    """Render one self-contained page: style, script, figures and their data."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("snn_exp.reporting"),
        autoescape=True,
        finalize=escaping.html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # lines stay in the order of the report
    shown = report.comparison
    rows = [row for panel in shown.panels for line in panel.lines for row in line.rows.values()]
    heading = f"{shown.metric}{scale(shown.metric)[2]}"
    high = ["val/acc %"] if is_cost(shown.metric) else ["val/acc %", heading]
    look = looks.of_comparison(shown)
    drawn = {panel.name: tables.table(shown, panel) for panel in shown.panels}
    best = {name: page_tables.of(*found, look, best_is_high=high, by=heading) for name, found in drawn.items()}
    order = {name: [row[0].lead for row in table.rows] for name, table in best.items()}
    commands = _Commands()
    return environment.get_template("report.html").render(
        report=report,
        comparison=shown,
        tables=[(panel, best[panel.name]) for panel in shown.panels],
        energies=[
            (panel, page_tables.of(*found, look, order=order[panel.name]))
            for panel in shown.panels
            if (found := energies.table(shown, panel)) is not None
        ],
        energies_title=energies.TITLE,
        energies_note=energies.caption(shown),
        details=[
            (f"{title}: {panel.name}", page_tables.of(*found, {}))
            for panel in shown.panels
            for title, found in (
                (per_class.TITLE, per_class.table(panel)),
                (mistakes.TITLE, mistakes.table(panel)),
            )
            if found is not None
        ],
        pictures=[(picture, picture.svg(), _data_link(picture)) for picture in pictures],
        swatches={name: page_tables.swatch(found) for name, found in look.items()},
        bokeh=charts.library() if any(picture.chart for picture in pictures) else None,
        runs=[
            _card(shown, panel, line, seed, row) | {"command": commands.number(row.result.config)}
            for panel in shown.panels
            for line in panel.lines
            for seed, row in line.rows.items()
        ],
        commands=commands,
        metric=heading,
        gaps=tables.gaps(shown),
        note=tables.caption(shown, [heading for headings, _ in drawn.values() for heading in headings]),
        origin=tables.origin(rows),
        made_at=now(),
    )


def _data_link(picture: Picture) -> str:
    return "data:text/csv;base64," + base64.b64encode(escaping.csv(picture.data).encode()).decode()


def _card(shown: Comparison, panel: Panel, line: Line, seed: int, row: Row) -> dict[str, Any]:
    """Return the details of a run that the page shows."""
    result = row.result
    factor, digits, _ = scale(shown.metric)
    value = values({seed: row}, shown.metric).get(seed)
    return {
        "id": result.run_id,
        "panel": panel.name,
        "line": line.name,
        "seed": seed,
        "status": result.status,
        "value": value,
        "shown": "-" if value is None else f"{factor * value:.{digits}f}",
        "cpu_s": result.cpu_s,
        "facts": {
            "finished": result.finished_at,
            "split": result.split_fingerprint,
            "best epoch": result.best_epoch,
            "wall time": f"{result.duration_s:.0f} s",
            "peak memory": "-" if result.peak_memory_mib is None else f"{result.peak_memory_mib:.0f} MiB",
            "source": row.code,
            "threads": json.dumps(row.execution.get("trainer", {}).get("num_threads")),
        },
    }


class _Commands:
    """The commands that train the runs of a page again, one for all runs that differ in the seed alone."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of a config without its seed, as JSON
        self._found: list[tuple[Mapping[str, Any], list[int]]] = []

    def number(self, config: Mapping[str, Any]) -> int:
        """Return the number of the command of a run."""
        key = json.dumps({**config, "seed": None}, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self._found) + 1
            self._found.append((config, []))
        number = self._numbers[key]
        self._found[number - 1][1].append(int(config["seed"]))
        return number

    def lines(self) -> list[str]:
        """Return each command with all of its seeds, or why the present version refuses its config."""
        return [_command(config, seeds) for config, seeds in self._found]


def _command(config: Mapping[str, Any], seeds: Sequence[int]) -> str:
    try:
        words = compose.overrides_of(resolve(config))
    except UserError as refusal:
        return f"none: {refusal}"
    several = f"seed={','.join(map(str, sorted(seeds)))}"
    words = tuple(several if word == f"seed={config['seed']}" else word for word in words)
    return command_line("train", words, flags=["-m"] if len(seeds) > 1 else [])
