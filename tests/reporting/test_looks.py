"""Every line has one look, and colour-blind readers can tell the looks of a page apart."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from snn_exp.config.experiment import EnergyConfig
from snn_exp.reporting import figures
from snn_exp.reporting.comparison import Comparison, Line, Panel
from snn_exp.reporting.looks import COLOURS, Look, looks, of_comparison
from snn_exp.studies import spec
from tests.studies.test_judging import rows

# of linear sRGB, severity 1.0: Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color
# vision deficiency", IEEE TVCG 15 (2009)
SEEN_BY = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
APART = 24.0  # in CIELAB; 2.3 is a just noticeable difference of fields that touch
GROUNDS = {"light": "#ffffff", "dark": "#14181d"}  # of report.html


def linear(colour: str) -> np.ndarray:
    coded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, seen_by: str) -> float:
    matrix = np.array(SEEN_BY[seen_by])
    return float(np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other))))


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_the_simulation_agrees_with_known_confusions() -> None:
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert distance("#ff7f0e", "#2ca02c", "protanopia") < 5 < 50 < distance("#ff7f0e", "#2ca02c", "all cones")


@pytest.mark.parametrize("seen_by", SEEN_BY)
@pytest.mark.parametrize("ground", GROUNDS)
def test_any_two_colours_are_told_apart_by_all_readers(ground: str, seen_by: str) -> None:
    shown = list(COLOURS) if ground == "light" else list(COLOURS.values())
    closest = min(itertools.combinations(shown, 2), key=lambda two: distance(*two, seen_by))
    assert distance(*closest, seen_by) >= APART, closest


@pytest.mark.parametrize("ground", GROUNDS)
def test_each_colour_stands_out_from_its_ground(ground: str) -> None:
    shown = list(COLOURS) if ground == "light" else list(COLOURS.values())
    assert {
        colour: contrast(colour, GROUNDS[ground]) for colour in shown if contrast(colour, GROUNDS[ground]) < 3
    } == {}


@pytest.mark.parametrize("name", spec.names())
def test_two_methods_of_a_study_differ_in_colour_or_beyond_nine_in_marker_and_stroke(name: str) -> None:
    found = looks(spec.load(name).methods)
    for one, other in itertools.combinations(found.values(), 2):
        if len(found) <= len(COLOURS):
            assert min(distance(one.colour, other.colour, seen_by) for seen_by in SEEN_BY) >= APART
        else:
            assert one.colour != other.colour or (one.marker != other.marker and one.stroke != other.stroke)


def test_a_name_keeps_its_colour_from_report_to_report_unless_another_has_taken_it() -> None:
    names = [f"m{number}" for number in range(40)]
    alone = {name: looks([name])[name] for name in names}
    together = looks(names[:4])
    kept = [name for name in names[:4] if together[name] == alone[name]]
    assert kept[0] == "m0" and len(kept) >= 2
    assert len({look.colour for look in alone.values()}) > 4, "the names spread over the colours"


def test_depths_of_a_method_share_its_colour_and_differ_in_marker_and_stroke() -> None:
    lines = [Line({"norm": norm, "depth.num_layers": n}, {}) for norm in ("bn", "psp") for n in ("8", "20", "56")]
    found = of_comparison(Comparison("tiny", "test/acc", [Panel("here", "", lines, {})], EnergyConfig()))
    for norm in ("bn", "psp"):
        of_norm = [found[f"{norm} d{n}"] for n in (8, 20, 56)]
        assert {look.colour for look in of_norm} == {found[norm].colour}
        assert len({look.marker for look in of_norm}) == len({look.stroke for look in of_norm}) == 3
    assert found["bn"].colour != found["psp"].colour
    alone = of_comparison(Comparison("tiny", "test/acc", [Panel("here", "", lines[:3], {})], EnergyConfig()))
    assert len({alone[line.name].colour for line in lines[:3]}) == 3


def test_seventy_two_lines_have_looks_of_their_own() -> None:
    found = looks(f"m{number}" for number in range(72))
    assert len({(look.colour, look.marker) for look in found.values()}) == 72


def of_two_depths() -> Comparison:
    def line(name: str, layers: int) -> Line:
        found = rows(0.9 + 0.01 * (name == "b"), more={"test/energy_pj": 100.0 * layers})
        for row in found.values():
            row.result.config["depth"] = {"num_layers": layers}  # type: ignore[index]
        return Line({"method": name}, found)

    panels = [Panel(f"here_d{n}", "", [line("a", n), line("b", n)], {"b": "a"}) for n in (8, 20)]
    return Comparison("tiny", "test/acc", panels, EnergyConfig())


def test_a_line_has_one_look_in_all_figures_of_a_report_and_in_their_charts() -> None:
    comparison = of_two_depths()
    expected = of_comparison(comparison)
    drawn = {picture.name: picture for picture in figures.pictures(comparison)}
    assert "depth" in drawn
    for picture in drawn.values():
        assert picture.chart is not None
        assert {name: expected[name] for name in picture.chart.looks} == picture.chart.looks
    figure = drawn["depth"].draw(drawn["depth"].data)
    legend: dict[Any, Any] = {handle.get_label(): handle for handle in figure.axes[0].containers}
    for name in ("a", "b"):
        (line, *_) = legend[name].lines
        look: Look = expected[name]
        assert (line.get_color(), line.get_marker(), line.get_linestyle()) == (look.colour, look.marker, look.stroke)
