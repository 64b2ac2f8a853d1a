"""Parts from other packages: an installed package with an entry point of the group `snn_exp.plugins` is enough.

Each entry point is a module that registers parts when it is imported. It is imported at the first question that the
built-in parts do not answer, and not before: `snn-exp runs` starts as fast with a plugin as without. No torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from snn_exp.errors import UserError

GROUP = "snn_exp.plugins"


def installed() -> tuple[EntryPoint, ...]:
    """Return the entry points of all plugins, in the order of their names."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)))


@functools.cache
def load_plugins() -> None:
    """Import every plugin, so that its parts are registered.

    Raises:
        UserError: one cannot be imported, with its name, its package and the reason.
    """
    for entry in installed():
        try:
            entry.load()
        except Exception as error:  # code of somebody else: anything
            package = entry.dist.name if entry.dist else entry.module
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(
                f"the plugin {entry.name} ({entry.value}) cannot be imported: {reason}; mend it, or type "
                f"pip uninstall {package}"
            ) from error


def plugins_hash() -> str | None:
    """Return a hash of the source of all plugins, without importing one; None where a source cannot be read."""
    digest = hashlib.sha256()
    for entry in installed():
        top = entry.module.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
            origin = Path(spec.origin) if spec is not None and spec.origin else None
            if origin is None:
                return None
            files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
            digest.update(f"{entry.name} {entry.value}".encode())
            for file in files:
                digest.update(file.name.encode() + file.read_bytes())
        except (ImportError, OSError, ValueError):
            return None
    return digest.hexdigest()
