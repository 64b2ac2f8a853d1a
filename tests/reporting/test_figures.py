"""What is drawn, and that every figure is drawn from the numbers that stand beside it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from snn_exp.config.experiment import EnergyConfig
from snn_exp.reporting import figures, tables
from snn_exp.reporting.axes import legend_below, make_grid
from snn_exp.reporting.comparison import Comparison, Line, Panel
from snn_exp.reporting.figures import Picture, depth, heat, optimal, pareto
from tests.studies.test_judging import rows


def of(**lines: dict[int, Any]) -> Comparison:
    panel = Panel("here", "", [Line({"method": name}, found) for name, found in lines.items()], {})
    return Comparison("tiny", "test/acc", [panel], EnergyConfig())


def drawn(picture: Picture) -> Any:
    return picture.draw(picture.data)


def test_a_line_is_optimal_unless_another_is_as_cheap_and_as_good_and_better_in_one() -> None:
    points = {"a": (1.0, 0.5), "b": (2.0, 0.9), "c": (2.0, 0.8), "d": (3.0, 0.9), "e": (4.0, 0.95)}
    assert optimal(points) == ["a", "b", "e"]


def test_energy_is_drawn_where_lines_differ_in_it() -> None:
    cheap, dear = rows(0.9, more={"test/energy_pj": 100.0}), rows(0.95, more={"test/energy_pj": 500.0})
    comparison = of(cheap=cheap, dear=dear, diverged=rows(0.95, diverged=5))
    picture = pareto(comparison, comparison.panels[0])
    assert picture is not None and list(picture.data["line"]) == ["cheap", "dear"] and picture.data["optimal"].all()
    same = of(a=cheap, b=rows(0.8, more={"test/energy_pj": 100.0}))
    assert pareto(same, same.panels[0]) is None


def test_a_figure_shows_the_numbers_beside_it() -> None:
    comparison = of(cheap=rows(0.9, more={"test/energy_pj": 100.0}), dear=rows(0.95, more={"test/energy_pj": 500.0}))
    picture = pareto(comparison, comparison.panels[0])
    assert picture is not None
    (front, *_) = drawn(picture).axes[0].lines
    assert front.get_xdata() == pytest.approx([0.1, 0.5]) and front.get_ydata() == pytest.approx([90.0, 95.0])


def test_the_same_data_give_the_same_file() -> None:
    comparison = of(cheap=rows(0.9, more={"test/energy_pj": 100.0}), dear=rows(0.95, more={"test/energy_pj": 500.0}))
    first, second = (pareto(comparison, comparison.panels[0]) for _ in range(2))
    assert first is not None and second is not None and first.svg() == second.svg()
    assert first.svg().startswith("<svg") and first.svg().rstrip().endswith("</svg>")


def test_nothing_is_drawn_against_a_single_depth() -> None:
    found = rows(0.9)
    for row in found.values():
        row.result.config["depth"] = {"num_layers": 8}  # type: ignore[index]
    assert depth(of(a=found)) is None


def test_two_lines_of_a_figure_never_look_the_same() -> None:
    def at(layers: int) -> dict[str, dict[int, Any]]:
        found = {f"m{n}": rows(0.9) for n in range(25)}
        for row in itertools.chain.from_iterable(of.values() for of in found.values()):
            row.result.config["depth"] = {"num_layers": layers}  # type: ignore[index]
        return found

    panels = [
        Panel(f"here_d{layers}", "", [Line({"method": name}, found) for name, found in at(layers).items()], {})
        for layers in (8, 20)
    ]
    picture = depth(Comparison("tiny", "test/acc", panels, EnergyConfig()))
    assert picture is not None
    looks = [
        (line.get_color(), line.get_linestyle())
        for line in drawn(picture).axes[0].lines
        if len(line.get_xdata()) > 1 and line.get_linestyle() != "None"  # what ends the bars
    ]
    assert len(set(looks)) == 25


def test_names_axes_and_title_of_a_figure_lie_within_it_and_apart() -> None:
    found = {f"a method of a longer name {n}": rows(0.9, more={"test/energy_pj": 100.0 + n}) for n in range(20)}
    comparison = of(**found)
    picture = pareto(comparison, comparison.panels[0])
    assert picture is not None
    beside = drawn(picture)
    below, _ = make_grid(2, 2, 3.0, 2.0, "shown", list(found))
    for name in found:
        below.axes[0].plot([0, 1], label=name)
    legend_below(below)
    for figure in (beside, below):
        figure.canvas.draw()
        (legend,), whole = figure.legends, figure.bbox
        boxes = [axes.get_tightbbox() for axes in figure.axes] + [
            legend.get_window_extent(),
            figure._suptitle.get_window_extent(),
        ]
        assert all(
            whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes
        )
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_map_of_110_layers_names_them_by_number_within_its_own_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = [{f"val/firing_rate/stages.{n}.0.activation1.neuron": "0.1" for n in range(110)} for _ in range(3)]
    monkeypatch.setattr(figures, "_epochs_of", lambda run_id: epochs)
    comparison = of(a=rows(0.9), b=rows(0.8))
    picture = heat(comparison, comparison.panels[0])
    assert picture is not None
    figure = drawn(picture)
    figure.canvas.draw()
    *maps, _ = figure.axes
    said = [label.get_text() for label in maps[0].get_yticklabels()]
    assert said[0] == "1" and said[-1] == "110" and len(said) <= 12
    labels = [label.get_window_extent() for label in maps[0].get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(labels))
    assert not maps[0].get_tightbbox().overlaps(maps[1].get_tightbbox())
    assert picture.data["layer"].iloc[0] == "stages.0.0.activation1.neuron", "the numbers beside it name the layer"


@pytest.mark.parametrize(("dpi", "pixels"), [(None, 300), (90, 90)])
def test_a_picture_has_300_dots_per_inch_unless_it_is_for_a_page(dpi: int | None, pixels: int, tmp_path: Path) -> None:
    comparison = of(cheap=rows(0.9, more={"test/energy_pj": 100.0}), dear=rows(0.95, more={"test/energy_pj": 500.0}))
    picture = pareto(comparison, comparison.panels[0])
    assert picture is not None
    width = int.from_bytes(picture.save(tmp_path / "pareto.png", dpi).read_bytes()[16:20], "big")
    assert width == pytest.approx(pixels * drawn(picture).get_figwidth(), abs=1)


def test_statistics_of_a_panel_are_computed_once_for_table_and_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    plain = tables._summary
    monkeypatch.setattr(tables, "_summary", lambda c, p, line: computed.append(line.name) or plain(c, p, line))
    found = {"a": rows(0.9), "b": rows(0.8)}
    for row in itertools.chain.from_iterable(of_line.values() for of_line in found.values()):
        row.result.config["encoding"] = {"num_steps": 1}  # type: ignore[index]
    comparison = of(**found)
    tables.table(comparison, comparison.panels[0])
    assert "a has the highest" in tables.headline(comparison) and computed == ["a", "b"]
    tables.headline(dataclasses.replace(comparison, margin=0.01))
    assert computed == ["a", "b"] * 2, "of another comparison anew"
