"""Merging: the event files of several runs, such as the shards of a CI's matrix, as those of one run.

The first shard's start stands for all, and says of the others what they were probed to do where that differs; requirements and
implementations are named once; every result is kept, so that `pytest_netemu.report.fold` sees where shards disagree. The run has
finished when all have, and failed when one has. Evidence that a result names by a path is copied beside the merged file, into a
directory of its shard's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from netemu.errors import LocalError
from pytest_netemu.report.events import Event, EventWriter, Json, read_events

__all__ = ["merge"]


def merge(shards: Sequence[Path], out: Path) -> Path:
    """Write the events of the directories `shards` into `out`, and give the path of the file.

    A shard whose `events.jsonl` is not of a run, or of another version of the suite than the first one's, is a `LocalError`.
    """
    runs = [_read(shard) for shard in shards]
    starts = [cast("Event", run[0]["run"]) for run in runs]
    for shard, start in zip(shards, starts, strict=True):
        if start["suite"] != starts[0]["suite"]:
            raise LocalError(
                f"{shard} was judged by {start['suite']}, {shards[0]} by {starts[0]['suite']}; merge runs of one suite"
            )
    writer = EventWriter(out / "events.jsonl")
    try:
        writer.write("start", {"run": {**starts[0], "probes": _probes(starts)}})
        for number, (shard, run) in enumerate(zip(shards, runs, strict=True), 1):
            for event in run:
                if event["$type"] == "result":
                    evidence = dict(_moved(cast("Event", event["evidence"]), shard, out, f"shard-{number}"))
                    writer.write("result", {**_fields(event), "evidence": evidence})
        for kind in ("requirement", "implementation"):
            for event in _once(event for run in runs for event in run if event["$type"] == kind):
                writer.write(kind, _fields(event))
        ends = [event for run in runs for event in run if event["$type"] == "finish"]
        if len(ends) == len(runs):
            statuses = [cast("int", end["exit_status"]) for end in ends]
            writer.write("finish", {"finished": max(str(end["finished"]) for end in ends), "exit_status": max(statuses)})
    finally:
        writer.close()
    return writer.path


def _read(shard: Path) -> list[Event]:
    file = shard / "events.jsonl"
    if not file.is_file():
        raise LocalError(f"{shard} has no events.jsonl; give directories that runs were told to write to")
    events = list(read_events(file))
    if not events or events[0].get("$type") != "start":
        raise LocalError(f"{file} is not of a run: its first line is no start event")
    return events


def _fields(event: Event) -> Event:
    return {key: value for key, value in event.items() if key != "$type"}


def _once(events: Iterable[Event]) -> Iterator[Event]:
    """Each implementation or requirement once: the first that knows its version, if any does."""
    found: dict[Json, Event] = {}
    for event in events:
        if event["id"] not in found or not found[event["id"]].get("version", True):
            found[event["id"]] = event
    return iter(found.values())


def _probes(starts: Sequence[Event]) -> dict[str, Json]:
    """What the machines were probed to do; where they differ, each answer once."""
    answers: dict[str, dict[str, None]] = {}
    for start in starts:
        for name, words in cast("dict[str, str]", start["probes"]).items():
            answers.setdefault(name, {})[words] = None
    return {name: "; ".join(words) for name, words in answers.items()}


def _moved(evidence: Event, shard: Path, out: Path, name: str) -> Iterator[tuple[str, Json]]:
    """The evidence with its files copied below `out`; a path that leads out of the shard is dropped."""
    for kind, found in evidence.items():
        source = shard / str(found)
        if not kind.startswith("pcapng"):
            yield kind, found
        elif source.is_file() and source.resolve().is_relative_to(shard.resolve()):
            target = out / name / str(found)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            yield kind, f"{name}/{found}"
