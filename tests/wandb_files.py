"""What a run of W&B holds, read back from the file that it leaves.

Format: 7 bytes of header, blocks of 32 KiB, in each of them chunks <crc uint32, length uint16, kind uint8>, where a
record is one whole chunk or several (first, middle, last); a record is a protobuf `Record`.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")
HEADER = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclasses.dataclass
class WandbRun:
    """As W&B names its parts; history has a row a step."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    exit_code: int | None = None  # None: it was killed

    def curves(self, axis: str) -> list[dict[str, float]]:
        """The rows that have this axis."""
        return [row for row in self.history if axis in row]


def read(path: Path) -> WandbRun:
    """The run in a .wandb file."""
    from wandb.proto import wandb_internal_pb2

    run = WandbRun()
    for content in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)  # type: ignore[attr-defined]
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.name, run.group = record.run.run_id, record.run.display_name, record.run.run_group
            run.tags = list(record.run.tags)
            run.config |= ours({item.key: json.loads(item.value_json) for item in record.run.config.update})
        elif kind == "history":
            run.history.append(ours({_key(item): json.loads(item.value_json) for item in record.history.item}))
        elif kind == "summary":
            run.summary |= ours({_key(item): json.loads(item.value_json) for item in record.summary.update})
            for item in record.summary.remove:
                run.summary.pop(_key(item))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def ours(content: dict[str, Any]) -> dict[str, Any]:
    """Without what W&B adds by itself, such as _step."""
    return {key: value for key, value in content.items() if not key.startswith("_")}


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _records(content: bytes) -> Iterator[bytes]:
    assert content.startswith(b":W&B")
    place, record = HEADER, b""
    while place + CHUNK.size <= len(content):
        if (left := BLOCK - place % BLOCK) < CHUNK.size:
            place += left  # too little for a chunk: padding
            continue
        _, length, kind = CHUNK.unpack_from(content, place)
        place += CHUNK.size
        record += content[place : place + length]
        place += length
        assert kind in (FULL, FIRST, MIDDLE, LAST)
        if kind in (FULL, LAST):
            yield record
            record = b""
