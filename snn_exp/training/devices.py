"""The hardware on which a run is computed."""

from __future__ import annotations

import os
from typing import Any

import torch


def hardware() -> dict[str, Any]:
    """Return the number of CPU cores and the name of the GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": os.cpu_count(), "gpu": gpu}
