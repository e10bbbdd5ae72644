"""The Markdown summary of a conformance document, for a terminal or a CI job's page."""

from __future__ import annotations

from typing import Any, Final

from pytest_netemu.outcomes import OUTCOMES

__all__ = ["markdown"]

_SHOWN: Final = ("fail", "error", "inconclusive", "known-deviation", "nonstrict")
_LEVELS: Final = ("MUST", "descriptive", "SHOULD", "MAY")


def markdown(document: dict[str, Any]) -> str:
    """A table of outcomes by level for each implementation, then what did not pass, worst first."""
    levels = {requirement["id"]: requirement["level"] for requirement in document["requirements"]}
    lines = ["# netemu conformance", "", f"frames `{document['run']['frames'][:16]}`, started {document['run']['started']}", ""]
    for implementation in document["implementations"]:
        results = [result for result in document["results"] if result["implementation"] == implementation["id"]]
        if not results:  # it only had a part in it
            continue
        names = [name for name in OUTCOMES if any(result["outcome"] == name for result in results)]
        version = f" {implementation['version']}" if implementation["version"] else ""
        lines += [f"## {implementation['id']}{version} ({implementation['kind']})", "", f"| level | {' | '.join(names)} |"]
        lines.append("| --- |" + " ---: |" * len(names))
        for level in _LEVELS:
            of_level = [result["outcome"] for result in results if levels.get(result["requirement"]) == level]
            if of_level:
                lines.append(f"| {level} | {' | '.join(str(of_level.count(name)) for name in names)} |")
        lines.append("")
        for name in _SHOWN:
            lines += [f"- **{name}** {_line(result)}" for result in results if result["outcome"] == name]
        lines.append("")
    return "\n".join(lines)


def _line(result: dict[str, Any]) -> str:
    why = result["why"].partition("\n")[0].replace("|", "\\|")
    return f"`{result['requirement']}` {why} (`{result['repro']}`)"
