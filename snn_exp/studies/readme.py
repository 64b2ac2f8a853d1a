"""Write the README.md of a study: claims, tables, tuning, cost. Reads rows only; no torch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from snn_exp import escaping
from snn_exp.errors import UserError, unknown
from snn_exp.files import require_within, write_text
from snn_exp.metrics.energy import price_list
from snn_exp.reporting import energies, figures, tables
from snn_exp.reporting.comparison import Comparison, Line, Panel, require_metric, values
from snn_exp.reporting.documents import Asked, Report
from snn_exp.reporting.figures import Picture
from snn_exp.reporting.verdicts import Answer
from snn_exp.reporting.wandb_dashboard import Shown
from snn_exp.studies import claims_section, joining, scope
from snn_exp.studies.judging import judge
from snn_exp.studies.runner import Progress, StudyRun
from snn_exp.studies.spec import Overrides, Setting, Study
from snn_exp.studies.study_links import linked

plain = escaping.markdown
PAGE_DPI = 90  # of the figures that are committed with a page; `snn-exp report NAME --format png` has 300
PICTURES = ("depth", "pareto_", "layers_")  # prefixes of the names of the plots that a README shows


def comparison_of(progress: Progress, versus: str | None = None, metric: str | None = None) -> Comparison:
    """Compare a study's final runs: one panel per setting, one line per method.

    Args:
        progress: of the study.
        versus: the method that the others are compared with, if not the study's reference.
        metric: what is compared, if not the study's metric.
    """
    study = progress.study
    versus = versus or study.reference
    panels = []
    for setting, about in study.settings.items():
        methods = [method for method in study.methods if (setting, method) in study.pairs()]
        lines = [_line(progress, setting, method) for method in methods]
        panels.append(
            Panel(
                name=setting,
                about=" ".join((*study.base, *about.overrides)),
                lines=lines,
                versus={method: versus for method in methods if method != versus and versus in methods},
            )
        )
    panels = [panel for panel in panels if any(line.rows for line in panel.lines)]
    left_out = [f"{pattern} is not run: {why}" for pattern, why in study.exclude.items()]
    return Comparison(study.name, metric or study.metric, panels, progress.profile, notes=left_out)


def _line(progress: Progress, setting: str, method: str) -> Line:
    rows = progress.rows_of((setting, method))
    missing = {seed: "not run" for seed in progress.study.seeds_of((setting, method)) if seed not in rows}
    return Line({"method": method}, rows, missing)


def write(progress: Progress) -> Path:
    """Write README.md and the plots into the study's folder, and return the path of the README."""
    study = progress.study
    comparison = comparison_of(progress)
    shown = _pictures_of(comparison)
    answers = judge(progress)
    plots = claims_section.plots(answers)
    folder = require_within(study.folder / "figures", study.folder)
    claims_section.remove_others(folder, plots.values())
    for picture in (*shown, *plots.values()):
        picture.save(require_within(folder / f"{picture.name}.png", study.folder), PAGE_DPI)
    path = study.folder / "README.md"
    write_text(path, _page(progress, comparison, shown, answers))
    return path


def page(progress: Progress) -> str:
    """Return README.md as `write` writes it."""
    comparison = comparison_of(progress)
    return _page(progress, comparison, _pictures_of(comparison), judge(progress))


JOINED = (
    "Methods of others, with the same trials, seeds and one reading of the test set, which joined after the rows above "
    "were seen. They are no part of the study's claims. Differences are to {reference}; p values are Holm-corrected "
    "within each table, which has the study's methods and these."
)


def with_joined(progress: Progress, joined: Sequence[Progress]) -> Comparison:
    """Return the comparison of a study in which methods that joined stand as lines of their own, marked.

    Args:
        progress: of the study.
        joined: of each method that joined; see `snn_exp.studies.joining`.
    """
    comparison, study = comparison_of(progress), progress.study
    panels = {panel.name: panel for panel in comparison.panels}
    for other in joined:
        for setting, method in other.study.pairs():
            if setting in panels and other.rows_of((setting, method)):
                panel, line = panels[setting], _line(other, setting, method)
                line = dataclasses.replace(line, labels={"method": f"{method} (joined afterwards)"})
                versus = {**panel.versus, **({line.name: study.reference} if panel.line(study.reference) else {})}
                panels[setting] = dataclasses.replace(panel, lines=[*panel.lines, line], versus=versus)
    return dataclasses.replace(comparison, panels=list(panels.values()))


def _joined(progress: Progress, joined: Sequence[Progress]) -> str:
    """Write what the methods that joined are, and their lines among those of the study."""
    said = [
        f"- {plain(name)}: {escaping.markdown_code(' '.join(overrides))}"
        for other in joined
        for name, overrides in other.study.methods.items()
    ]
    intro = JOINED.format(reference=progress.study.reference)
    trials = [tuning for other in joined if other.trials and (tuning := _tuning(other))]
    return "\n\n".join([plain(intro), "\n".join(said), _results(with_joined(progress, joined)), *trials])


def write_joined(progress: Progress, joined: Progress) -> Path:
    """Write README.md into the folder of a method that joined, and return its path.

    Args:
        progress: of the study.
        joined: of the method alone.
    """
    name = next(iter(joined.study.methods))
    head = f"# {plain(name)}, joined to {plain(progress.study.name)} afterwards\n\n{plain(progress.study.question)}"
    path = joined.study.folder / "README.md"
    write_text(path, f"{head}\n\n{_joined(progress, [joined])}\n")
    return path


def _pictures_of(comparison: Comparison) -> list[Picture]:
    return [picture for picture in figures.pictures(comparison) if picture.name.startswith(PICTURES)]


def _page(progress: Progress, comparison: Comparison, pictures: Sequence[Picture], answers: Sequence[Answer]) -> str:
    study = progress.study
    parts = [
        f"# {plain(study.name)}\n\n{plain(study.question)}",
        f"**Note.** {linked(study.note, '../', but=study.name)}" if study.note else "",
        _status(progress),
        f"Made by `snn-exp study {study.name}`, which trains what is missing, and by `snn-exp report {study.name}`, "
        f"which only writes this page from `results.jsonl`. What is compared stands in {_specification(study)}",
        "## What was run\n\n" + _scope(progress) if progress.rows() else "",
        "## Claims\n\n" + claims_section.written(answers) if study.claims else "",
        "## Results\n\n" + _results(comparison) + _left_out(study),
        "## Joined afterwards\n\n" + _joined(progress, joined) if (joined := joining.committed(study)) else "",
        "## Pictures\n\n" + _pictures(progress, pictures) if pictures else "",
        "## Tuning\n\n" + _tuning(progress) if progress.trials else "",
        "## Cost and origin\n\n" + _origin(progress),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _specification(study: Study) -> str:
    """Name study.yaml by its content, so that a reader can tell which was there before the rows."""
    digest = hashlib.sha256((study.folder / "study.yaml").read_bytes()).hexdigest()
    log = f"git log --format=%cI -- studies/{study.name}/study.yaml"
    return f"`study.yaml`, whose SHA-256 begins with {digest[:16]}; `{log}` says when it was written and changed."


def plan(progress: Progress, only: str = "*") -> str:
    """Describe what is done, what would be run, and how long it would take, in one line per setting."""
    study = progress.study
    hours = progress.hours_to_come(only)
    done = Counter(run.setting for run in (*progress.trials, *progress.finals) if run.config.run_id in progress.rows())
    trials = Counter(run.key for run in progress.todo(only) if run.is_trial)
    finals = Counter(run.key for run in (*progress.todo(only), *progress.waiting(only)) if not run.is_trial)
    lines = [f"study {study.name}: {study.question}"]
    for setting in study.settings:
        methods = [m for m in study.methods if trials[setting, m] or finals[setting, m]]
        todo = ", ".join(f"{m} {trials[setting, m]} + {finals[setting, m]}" for m in methods)
        cost = f"{hours[setting]:.2f} core hours for {todo}" if todo else "nothing to do"
        lines.append(f"  {setting:<18} {done[setting]:>3} done, {cost}")
    lines.append("  (trials + final runs per method)")
    total = f"{progress.spent_hours():.2f} core hours spent, {sum(hours.values()):.2f} to come"
    return "\n".join([*lines, f"  {total}, {study.budget_core_hours:g} allowed"])


def answers(progress: Progress) -> list[str]:
    """Return one line per claim, for a terminal."""
    return [f"{answer.summary}: {answer.claim.says}" for answer in judge(progress)]


def _status(progress: Progress) -> str:
    study = progress.study
    missing = len(progress.todo()) + len(progress.waiting())
    kind = {
        "claims": f"Claims rest on {study.metric} over {_num_seeds(study)} seeds that no tuning has seen.",
        "exploratory": "**Exploratory**: few seeds; it suggests and proves nothing.",
    }[study.status]
    return (
        kind if not missing else f"{kind} **{missing} runs are still to be done**, so every statement is preliminary."
    )


def _num_seeds(study: Study) -> str:
    """Return how many seeds a method is answered with: one number, or the least and the most."""
    counts = sorted({len(study.seeds_of(key)) for key in study.pairs()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _scope(progress: Progress) -> str:
    """Describe the values to which the statements of the page apply."""
    lines = [f"- {plain(line)}" for line in scope.fixed(progress)]
    said = "Every statement on this page is about these values. With others it may be another one."
    return "\n".join([said, "", *lines, "", f"What was searched: {plain(scope.searched(progress.study))}"])


def _results(comparison: Comparison) -> str:
    parts, all_headings = [], []
    moved = False
    for panel in comparison.panels:
        headings, rows = tables.table(comparison, panel)
        all_headings += headings
        about = escaping.markdown_code(panel.about)
        parts.append(f"### {plain(panel.name)}\n\n{about}\n\n{tables.of_entries(headings, rows)}")
        if (three := energies.table(comparison, panel)) is not None:
            moved = True
            parts.append(f"{energies.TITLE}:\n\n{tables.of_entries(*three)}")
    parts.append(plain(tables.caption(comparison, all_headings)))
    parts += [plain(energies.caption(comparison))] if moved else []
    return "\n\n".join(parts)


def _left_out(study: Study) -> str:
    """List what is not run, and why."""
    lines = [f"- {escaping.markdown_code(pattern)}: {plain(why)}" for pattern, why in study.exclude.items()]
    return "\n\nNot run:\n\n" + "\n".join(lines) if lines else ""


def _pictures(progress: Progress, pictures: Sequence[Picture]) -> str:
    """Show each plot, with a caption under the last one against energy."""
    parts = {p.name: f"![{p.name}](figures/{p.name}.png)" for p in pictures}
    against_energy = [name for name in parts if name.startswith("pareto_")]
    if against_energy:
        parts[against_energy[-1]] += (
            "\n\nAccuracy against energy: mean and sd over seeds of one test sample in the inference form; joined: the "
            f"Pareto-optimal methods; {plain(price_list(progress.profile))}."
        )
    return "\n\n".join(parts.values())


def _tuning(progress: Progress) -> str:
    """Tabulate the trials of each method on validation data, and the point it kept."""
    study = progress.study
    parts = []
    for setting in study.settings.values():
        runs = [run for run in progress.trials if run.setting == setting.name]
        if not runs:
            continue
        if setting.drawn:
            parts.append(_drawn(progress, setting))
            continue
        points = setting.points()
        cells = [
            [method, *(_trial_cell(progress, [r for r in runs if r.method == method and r.point == p]) for p in points),
             _kept(setting, progress.chosen.get((setting.name, method)))]
            for method in study.methods
            if any(run.method == method for run in runs)
        ]  # fmt: skip
        seeds = f"seed{'s' if len(setting.trial_seeds) > 1 else ''} {', '.join(map(str, setting.trial_seeds))}"
        headings = ["method", *(" ".join(p) for p in points), "kept"]
        parts.append(
            f"### {plain(setting.name)}: {len(points)} trials per method and seed ({seeds})\n\n"
            + tables.markdown(headings, cells)
        )
    borrowed = [f"{s.name} uses the choice of {s.tuned_in}" for s in study.settings.values() if s.tuned_in != s.name]
    borrowed += [f"{method} uses the choice of {other}" for method, other in study.tuned_as.items()]
    note = "Validation accuracy %, mean over trial seeds; no trial reads the test set; ties go to the lower loss."
    return "\n\n".join([*parts, note + (f" {plain('; '.join(borrowed))}." if borrowed else "")])


def _drawn(progress: Progress, setting: Setting) -> str:
    """Tabulate a tuning by a search: of each method its trials, the best of them, and the point it kept."""
    cells = []
    for method in progress.study.methods:
        runs = [run for run in progress.trials if run.key == (setting.name, method)]
        points = dict.fromkeys(run.point for run in runs)
        ended = [p for p in points if all(r.config.run_id in progress.rows() for r in runs if r.point == p)]
        best = max((found for p in ended if (found := _mean_accuracy(progress, [r for r in runs if r.point == p]))),
                   default=None)  # fmt: skip
        kept = _kept(setting, progress.chosen.get((setting.name, method)))
        cells.append([method, str(len(ended)), "-" if best is None else f"{100 * best:.2f}", kept])
    assert setting.drawn is not None
    seeds = ", ".join(map(str, setting.trial_seeds))
    return (
        f"### {plain(setting.name)}: {plain(setting.drawn.words)}, for each method (seeds {seeds})\n\n"
        + tables.markdown(["method", "trials", "best", "kept"], cells)
    )


def _mean_accuracy(progress: Progress, runs: Sequence[StudyRun]) -> float | None:
    rows = [progress.rows()[run.config.run_id] for run in runs]
    return fmean(row.result.metrics["val/acc"] for row in rows) if all(row.done for row in rows) else None


def _kept(setting: Setting, point: Overrides | None) -> str:
    """Return the kept point, marked if it is at the edge of the grid, beyond which a better one may lie."""
    if point is None:
        return "-"
    edges = {f"{key}={value}" for key, of in setting.grid.items() if len(of) > 2 for value in (of[0], of[-1])}
    return " ".join(point) + (" (edge of the grid)" if edges & set(point) else "")


def _trial_cell(progress: Progress, runs: Sequence[StudyRun]) -> str:
    rows = [progress.rows()[run.config.run_id] for run in runs if run.config.run_id in progress.rows()]
    found = values(dict(enumerate(rows)), "val/acc").values()
    diverged = sum(not row.done for row in rows)
    lost = f" ({diverged} of {len(rows)} diverged)" if diverged else ""
    return (f"{100 * fmean(found):.2f}" if found else "-") + lost


def _origin(progress: Progress) -> str:
    """Tabulate the cost of each method, and list the versions and hardware of the rows."""
    study = progress.study
    used = [(run, progress.rows()[run.config.run_id]) for run in (*progress.trials, *progress.finals)
            if run.config.run_id in progress.rows()]  # fmt: skip
    cells = []
    for method in study.methods:
        of = [(run, row) for run, row in used if run.method == method]
        trials = [row for run, row in of if run.is_trial]
        hours = sum(row.result.cpu_s for _, row in of) / 3600
        cells.append([method, str(len(trials)), str(len(of) - len(trials)), f"{hours:.2f}"])
    table = tables.markdown(["method", "trials", "final runs", "core hours"], cells)
    rows = list({row.result.run_id: row for _, row in used}.values())
    lines = [f"- {what}: {plain(found)}" for what, found in tables.origin(rows).items()]
    total = sum(row.result.cpu_s for row in rows) / 3600
    return "\n".join(
        [table, "", f"{len(rows)} runs, {total:.2f} core hours of {study.budget_core_hours:g} allowed.", "", *lines]
    )


def report_of(progress: Progress, asked: Asked) -> Report:
    """Make the report of a study, with its claims.

    Raises:
        UserError: no finished run; lines other than its methods; a metric or method that it does not have.
    """
    study = progress.study
    if asked.by:
        raise UserError(
            f"the lines of study {study.name} are its methods; leave --by out, or report its runs by filters"
        )
    if asked.energy:
        raise UserError(
            f"study {study.name} is priced with energy={progress.profile.name}, which its study.yaml says; leave "
            f"--energy out, or report its runs by filters"
        )
    if asked.versus and asked.versus not in study.methods:
        raise unknown(f"method of study {study.name}", asked.versus, study.methods, "--versus {}")
    found = comparison_of(progress, asked.versus or study.reference, asked.metric or study.metric)
    rows = [row for panel in found.panels for line in panel.lines for row in line.rows.values()]
    if not rows:
        raise UserError(f"study {study.name} has no finished run yet; type snn-exp study {study.name}")
    require_metric(found.metric, rows)
    found = dataclasses.replace(found, margin=asked.margin)
    return Report(found, asked.command, study.question, judge(progress), study.note)


def dashboard_of(progress: Progress) -> Shown:
    """Return the finished final runs of a study for a dashboard.

    Raises:
        UserError: there is none.
    """
    study, rows = progress.study, progress.rows()
    results = [rows[run.config.run_id].result for run in progress.finals if run.config.run_id in rows]
    if not results:
        raise UserError(f"study {study.name} has no finished run yet; type snn-exp study {study.name}")
    return Shown(study.name, results)
