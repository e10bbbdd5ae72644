"""Events: one JSON object a line, flushed as it is written; readers skip what they do not know.

`$type` says what a line is:

- `start`: the run (`run`), first line of the file;
- `requirement`: one entry of the catalogue that the run judges by;
- `implementation`: one implementation under test, when its first result comes;
- `result`: one verdict over one requirement, with the attempt's evidence;
- `finish`: the time of the end, and the exit status of pytest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

__all__ = ["Event", "EventWriter", "Json", "read_events"]

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
Event: TypeAlias = dict[str, Json]


class EventWriter:
    """Writes events to `path`, over what was there."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", encoding="utf-8")

    def write(self, kind: str, fields: Mapping[str, Json]) -> None:
        """One event, on disk when this returns."""
        self._file.write(json.dumps({"$type": kind, **fields}, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, oldest first; from a line that is none (a crash cut it short) on, nothing."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                return
            if not isinstance(event, dict):
                return
            yield event
