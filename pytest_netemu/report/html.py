"""The HTML page of a conformance document: one file, no network, readable without JavaScript.

Requirements are rows, implementations columns; a cell has a colour and a letter. A row opens (`<details>`) to the sentence
itself and, for each implementation, why, the ladder, the evidence and the command that repeats it. A script only adds the
filter.
"""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from typing import Any

from pytest_netemu.outcomes import OUTCOMES

__all__ = ["html"]


def html(document: dict[str, Any]) -> str:
    """The page's text."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("page.html.j2").read_text("utf-8"))
    columns = _columns(document)
    return template.render(document, outcomes=OUTCOMES, documents=_documents(document, columns), columns=columns)


def _columns(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The implementations that were judged, each with its counts by outcome; the others only had a part in it."""
    counts: dict[str, Counter[str]] = {}
    for result in document["results"]:
        counts.setdefault(result["implementation"], Counter())[result["outcome"]] += 1
    return [
        implementation | {"counts": {name: count[name] for name in OUTCOMES if count[name]}, "judged": count.total()}
        for implementation in document["implementations"]
        if (count := counts.get(implementation["id"]))
    ]


def _documents(document: dict[str, Any], columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The requirements grouped by document; each with its cells, worst result first in each."""
    by_cell: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in document["results"]:
        by_cell.setdefault((result["requirement"], result["implementation"]), []).append(result)
    rank = {name: place for place, name in enumerate(("fail", "error", "inconclusive", "known-deviation", "nonstrict"))}
    groups: dict[str, dict[str, Any]] = {}
    for requirement in document["requirements"]:
        cells = []
        for implementation in columns:
            results = by_cell.get((requirement["id"], implementation["id"]), [])
            results.sort(key=lambda result: rank.get(result["outcome"], len(rank)))
            cells.append({"implementation": implementation, "results": results})
        group = groups.setdefault(requirement["doc"], {**requirement, "rows": []})
        group["rows"].append({**requirement, "cells": cells, "judged": any(cell["results"] for cell in cells)})
    for group in groups.values():  # who was judged by one document need not have been by another
        group["columns"] = [
            column for place, column in enumerate(columns) if any(row["cells"][place]["results"] for row in group["rows"])
        ]
        for row in group["rows"]:
            row["cells"] = [cell for cell in row["cells"] if cell["implementation"] in group["columns"]]
    return list(groups.values())
