"""A W&B dashboard with the content of a report, over the copies of the same runs. No torch.

The package wandb-workspaces builds it and saves it. Without a connection only its specification is written, which the
same package generates from its public classes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_exp.config.experiment import RUN_KEYS
from snn_exp.errors import UserError
from snn_exp.files import read_json, write_json
from snn_exp.metrics.energy import DEFAULT_PROFILE, price_list
from snn_exp.reporting.figures import PER_LAYER, WHEN
from snn_exp.runs import wandb_record
from snn_exp.runs.choices import choices, row_choices, varying
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import selected
from snn_exp.runs.wandb_record import LAYER, priced_key

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace


@dataclasses.dataclass(frozen=True)
class Shown:
    """The runs of a dashboard.

    Args:
        title: what was asked.
        results: of each run.
        notes: a sentence for each requested value that no run has.
    """

    title: str
    results: Sequence[Result]
    notes: Sequence[str] = ()

    @property
    def project(self) -> str:
        """Return the W&B project of all runs.

        Raises:
            UserError: there are several.
        """
        projects = sorted({str(result.config["logger"]["project"]) for result in self.results})
        if len(projects) > 1:
            raise UserError(
                f"the runs are in the W&B projects {' and '.join(projects)}, and a dashboard shows one; filter them, "
                f"or train them with logger.project={projects[0]}"
            )
        return projects[0]

    @property
    def lines(self) -> list[str]:
        """Return the choices that distinguish the lines, as in a report: runs of a line differ in the seed alone."""
        configs = [result.config for result in self.results]
        return row_choices([choices(config) for config in configs], varying(configs))

    def without_a_copy(self) -> list[str]:
        """Return the ids of the runs that are stored here but were never copied to W&B."""
        folders = [RunFolder(output_root() / "runs" / result.run_id).path for result in self.results]
        return [path.name for path in folders if path.exists() and not (path / "wandb").exists()]


def of_runs(filters: Sequence[str]) -> Shown:
    """Return the finished runs that match the filters.

    Raises:
        UserError: as `store.selected`, or none has ended.
    """
    found = selected(filters)
    results = [run.result for run in found.runs if run.result and run.state != "kept"]
    if not results:
        why = "; ".join(found.notes) or f"none of the {len(found.runs)} runs asked for has ended"
        raise UserError(f"{why}; snn-exp runs lists what is stored")
    return Shown(" ".join(filters), results, found.notes)


def save(shown: Shown, path: Path, command: str) -> str:
    """Save the dashboard in W&B, or in the file alone; return a line on what was done.

    Args:
        shown: its runs.
        path: of its specification; a dashboard that was saved from there before is updated, not duplicated.
        command: the command that saves it again.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    _require_workspaces()
    if wandb_record.wandb_is_offline():
        first = "W&B is offline; to save it there, type wandb login and"
    else:
        try:
            return f"saved: {_saved(shown, path)} (as specified in {path})"
        except Exception as error:  # of any kind; the file is written in any case
            first = f"W&B failed ({str(error).splitlines()[0]}); to save it there, type"
    _write(workspace(shown), path)
    return f"written: {path}; {first} {command}"


def _saved(shown: Shown, path: Path) -> str:
    wandb_record.quiet_wandb()
    import wandb
    from wandb_workspaces.workspaces import Workspace

    new = workspace(shown, wandb.Api().default_entity or "")
    address = read_json(path).get("url") if path.exists() else None
    if address:
        try:
            old = Workspace.from_url(address)
        except ValueError:
            pass  # it has been removed
        else:
            old.name, old.sections, old.runset_settings = new.name, new.sections, new.runset_settings
            new = old
    url = str(new.save().url)
    _write(new, path, url)
    return url


def _write(made: Workspace, path: Path, url: str | None = None) -> None:
    """Write the specification as W&B stores it, and its URL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"url": url, **made._to_model().model_dump(by_alias=True, exclude_none=True)})


def _require_workspaces() -> None:
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError:
        raise UserError(
            "snn-exp dashboard needs the package wandb-workspaces, which is not installed; type pip install "
            "'snn-exp[dashboard]'"
        ) from None


def workspace(shown: Shown, entity: str = "") -> Workspace:
    """Build the dashboard, not yet saved: its runs, one line per group that differs in the seed alone, its sections.

    Args:
        shown: its runs.
        entity: the user or team of the project; "" until one is logged in.
    """
    from wandb_workspaces import expr
    from wandb_workspaces.workspaces import RunsetSettings, Workspace, WorkspaceSettings

    return Workspace(
        entity=entity,
        project=shown.project,
        name=re.sub(r"[^\w.,-]+", " ", shown.title),  # W&B refuses signs such as "=" in it,
        sections=_sections(),
        settings=WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=RunsetSettings(
            filters=[expr.Metric("ID").isin(sorted(result.run_id for result in shown.results))],
            groupby=[expr.Config(_config_key(key)) for key in shown.lines],
        ),
    )


def _config_key(choice: str) -> str:
    """Return the key of a choice in the config of a W&B copy.

    Example:
        >>> _config_key("neuron"), _config_key("neuron.tau"), _config_key("teacher")
        ('neuron.name', 'neuron.tau', 'teacher')
    """
    return choice if "." in choice or choice in RUN_KEYS else f"{choice}.name"


def _sections() -> list[Section]:
    from wandb_workspaces.reports.v2 import Config, LinePlot, ScatterPlot, SummaryMetric
    from wandb_workspaces.workspaces import Section

    def over(axis: str, titles: Mapping[str, str], **settings: Any) -> list[LinePlot]:
        return [LinePlot(title=title, x=axis, y=[key], **settings) for key, title in titles.items()]

    def against(x: Config | SummaryMetric, titles: Mapping[str, str], **settings: Any) -> list[ScatterPlot]:
        return [ScatterPlot(title=title, x=x, y=SummaryMetric(key), **settings) for key, title in titles.items()]

    def by_layer(quantity: str, title: str, **settings: Any) -> list[LinePlot]:
        titles = {f"layers/{when}/{quantity}": f"{title} by layer, {words}" for when, words in WHEN.items()}
        return over(LAYER, titles, **settings)

    energy, depth = SummaryMetric(priced_key("test/energy_pj")), Config("depth.num_layers")
    prices = price_list(DEFAULT_PROFILE)
    panels = {
        "Accuracy": [
            *over("epoch", {"val/acc": "validation accuracy", "train/loss": "training loss"}),
            *against(SummaryMetric("val/acc"), {"test/acc": "test against validation accuracy"}),
        ],
        "Pareto": [
            *against(energy, {"test/acc": f"test accuracy against pJ per sample ({prices})"}, log_x=True),
            *against(SummaryMetric("test/firing_rate"), {"test/acc": "test accuracy against firing rate"}),
        ],
        "Firing by layer": [
            *over("epoch", {"val/firing_rate": "firing rate, validation"}),
            LinePlot(title="firing rate of each layer, validation", x="epoch", metric_regex=f"{PER_LAYER}.*"),
            *by_layer("firing_rate", "firing rate"),
            *by_layer("dead_channels", "dead channels"),
        ],
        "Depth": [
            *against(
                depth, {"test/acc": "test accuracy against layers", "test/firing_rate": "firing rate against layers"}
            ),
            *by_layer("variance", "Var(u)", log_y=True),
            *by_layer("gradient_norm", "|dL/dW|", log_y=True),
        ],
    }
    return [Section(name=name, panels=of, is_open=True) for name, of in panels.items()]
