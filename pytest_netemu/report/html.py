"""The HTML page of a conformance document: one file, no network, readable without JavaScript.

Requirements are rows, implementations columns; a cell has a colour and a letter. A row opens (`<details>`) to the sentence
itself and, for each implementation, why, the ladder, the evidence and the command that repeats it. A script only adds the
filter.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from pytest_netemu.outcomes import OUTCOMES

__all__ = ["html"]


def html(document: dict[str, Any]) -> str:
    """The page's text."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("page.html.j2").read_text("utf-8"))
    return template.render(outcomes=OUTCOMES, run=document["run"], documents=_documents(document), columns=_columns(document))


def _columns(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The implementations, each with its counts by outcome."""
    return [
        implementation
        | {
            "counts": {
                name: count
                for name in OUTCOMES
                if (count := sum(_is(result, implementation, name) for result in document["results"]))
            }
        }
        for implementation in document["implementations"]
    ]


def _is(result: dict[str, Any], implementation: dict[str, Any], outcome: str) -> bool:
    return bool(result["implementation"] == implementation["id"] and result["outcome"] == outcome)


def _documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The requirements grouped by document; each with its cells, worst result first in each."""
    by_cell: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in document["results"]:
        by_cell.setdefault((result["requirement"], result["implementation"]), []).append(result)
    rank = {name: place for place, name in enumerate(("fail", "error", "inconclusive", "known-deviation", "nonstrict"))}
    groups: dict[str, dict[str, Any]] = {}
    for requirement in document["requirements"]:
        cells = []
        for implementation in document["implementations"]:
            results = by_cell.get((requirement["id"], implementation["id"]), [])
            results.sort(key=lambda result: rank.get(result["outcome"], len(rank)))
            cells.append({"implementation": implementation, "results": results})
        group = groups.setdefault(requirement["document"], {**requirement, "rows": []})
        group["rows"].append({**requirement, "cells": cells, "judged": any(cell["results"] for cell in cells)})
    return list(groups.values())
