"""Which methods are Pareto-optimal, and where energy is drawn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from snn_exp.campaign import Progress
from snn_exp.config import EnergyConfig
from snn_exp.figures import draw_pareto, pareto
from tests.test_claims import rows


def test_a_method_is_optimal_unless_another_is_as_cheap_and_as_good_and_better_in_one() -> None:
    points = {"a": (1.0, 0.5), "b": (2.0, 0.9), "c": (2.0, 0.8), "d": (3.0, 0.9), "e": (4.0, 0.95)}
    assert pareto(points) == ["a", "b", "e"]


@pytest.mark.parametrize(("energy", "is_drawn"), [(500.0, True), (100.0, False)])
def test_energy_is_drawn_where_methods_differ_in_it(energy: float, is_drawn: bool, tmp_path: Path) -> None:
    cells = {
        "cheap": rows(0.9, **{"test/energy_pj": 100.0}),
        "dear": rows(0.95, **{"test/energy_pj": energy}),
        "diverged": rows(0.95, diverged=5),
    }
    study = SimpleNamespace(name="tiny", methods=cells, metric="test/acc")
    progress: Progress = SimpleNamespace(  # type: ignore[assignment]
        study=study, profile=EnergyConfig(), rows_of=lambda key: cells[key[1]]
    )
    path = tmp_path / "pareto.png"
    assert draw_pareto(progress, "here", path) == (path if is_drawn else None)
    assert path.exists() == is_drawn
