"""The fold: events to the document `netemu-conformance.json`.

Results are keyed by requirement, implementation and test. Several attempts of one key (a retry, or a teardown that broke
after a verdict) are all kept: where they disagree, the outcome is `error` if one of them is, else `inconclusive`. A
requirement of the catalogue without a result stays in the document, so that what was not judged can be seen too.

The run's `frames` is one hash over the frame logs of all results that are `exact`: two runs of the same code give the same one,
whatever the order, the number of workers or the hash seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, cast

from pytest_netemu.outcomes import OUTCOMES
from pytest_netemu.report.events import Event, Json

__all__ = ["SCHEMA_VERSION", "combined_digest", "fold"]

SCHEMA_VERSION: Final = "1.0"
_SCHEMA: Final = "netemu-conformance-1.schema.json"


def fold(events: Iterable[Event]) -> dict[str, Json]:
    """The document. Events of an unfinished run give a document whose run has no `finished`."""
    run: dict[str, Json] = {}
    implementations: dict[Json, Event] = {}
    requirements: dict[Json, Event] = {}
    attempts: dict[tuple[Json, ...], list[Event]] = {}
    for event in events:
        fields = {key: value for key, value in event.items() if key != "$type"}
        match event.get("$type"):
            case "start":
                run.update(cast("Event", fields["run"]))
            case "finish":
                run.update(fields)
            case "implementation":
                implementations[fields["id"]] = fields
            case "requirement":
                requirements[fields["id"]] = fields
            case "result":
                key = (fields["requirement"], fields["implementation"], fields["nodeid"])
                attempts.setdefault(key, []).append(fields)
            case _:
                continue
    results = [_merge(tries) for _, tries in sorted(attempts.items(), key=lambda entry: str(entry[0]))]
    run["frames"] = combined_digest(results)
    run["outcomes"] = cast("Event", _count(results))
    return {
        "$schema": _SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "run": run,
        "implementations": [implementations[name] for name in sorted(implementations, key=str)],
        "requirements": list(requirements.values()),
        "results": cast("list[Json]", results),
    }


def combined_digest(results: Iterable[Event]) -> str:
    """SHA-256 over the frame logs of the `exact` results, in the order of their tests' names."""
    exact = {f"{result['nodeid']} {result['frames']}" for result in results if result["determinism"] == "exact"}
    return sha256("\n".join(sorted(exact)).encode()).hexdigest()


def _merge(attempts: list[Event]) -> Event:
    outcomes = [attempt["outcome"] for attempt in attempts]
    merged = dict(attempts[-1])
    if len(set(outcomes)) > 1:
        merged["outcome"] = "error" if "error" in outcomes else "inconclusive"
        merged["why"] = "; ".join(f"{attempt['outcome']}: {attempt['why']}".rstrip(": ") for attempt in attempts)
    merged["attempts"] = outcomes
    return merged


def _count(results: Iterable[Event]) -> dict[str, int]:
    found = Counter(str(result["outcome"]) for result in results)
    return {name: found[name] for name in OUTCOMES if found[name]}
