"""Contents of a run's copy in W&B, and whether W&B can be reached. No torch.

Its curves over the epochs are metrics.csv, under the same names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from snn_exp.metrics.energy import DEFAULT_PROFILE, price_list, with_energy
from snn_exp.runs.run_files import Result

LAYER = "layers/index"  # the axis of curves over the layers: 0 is the first


def wandb_is_offline() -> bool:
    """Return whether W&B runs offline: by its settings, or with nobody logged in (no WANDB_API_KEY or .netrc entry)."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode != "online"
    return not (os.environ.get("WANDB_API_KEY") or _netrc_has_wandb())


def _netrc_has_wandb() -> bool:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return "wandb" in path.read_text(encoding="utf-8")
    except OSError:
        return False


def quiet_wandb() -> None:
    """Silence W&B, before it is imported; snn_exp reports what matters."""
    os.environ.setdefault("WANDB_SILENT", "true")


def layer_rows(layers: Mapping[str, Mapping[str, list[float]]]) -> Iterator[dict[str, float]]:
    """Yield the curves over the layers for W&B: one row per layer, on an axis of their own.

    They are not a W&B table, because such a table keeps its data outside the run's folder and waits for the server.

    Example:
        >>> list(layer_rows({"init": {"firing_rate": [0.5, 0.25], "variance": [2.0]}}))[1]
        {'layers/index': 1, 'layers/init/firing_rate': 0.25}
    """
    curves = {f"layers/{when}/{quantity}": curve for when, of in layers.items() for quantity, curve in of.items()}
    for index, values in enumerate(zip_longest(*curves.values())):
        row = {key: value for key, value in zip(curves, values, strict=True) if value is not None}
        yield {LAYER: index, **row}


def summary_of(result: Result) -> dict[str, Any]:
    """Return the metrics of a run that reports use; the key of an energy ends with its profile's name."""
    priced = with_energy(result.metrics, DEFAULT_PROFILE)
    summary = {
        "status": result.status,
        "best_epoch": result.best_epoch,
        "duration_s": result.duration_s,
        "cpu_s": result.cpu_s,
        "peak_memory_mib": result.peak_memory_mib,
        "compile_s": result.compile_s,
        "finished_at": result.finished_at,
        "split_fingerprint": result.split_fingerprint,
        "energy_profile": price_list(DEFAULT_PROFILE),
        **{priced_key(key) if key not in result.metrics else key: value for key, value in priced.items()},
    }
    return {key: value for key, value in summary.items() if value is not None}  # a server keeps no None


def priced_key(key: str) -> str:
    """Return the key of an energy in W&B, which includes its profile since no caption states it.

    Example:
        >>> priced_key("test/energy_pj")
        'test/energy_pj/h45_fp32'
    """
    return f"{key}/{DEFAULT_PROFILE.name}"
