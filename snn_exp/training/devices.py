"""The devices that a run asks for, and those it is run on."""

from __future__ import annotations

import os
from typing import Any

import torch


def hardware() -> dict[str, Any]:
    """What the run computes on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": os.cpu_count(), "gpu": gpu}
