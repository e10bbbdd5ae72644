"""A comparison as a table for people, and as a drawing: for each measure a group of bars, a bar an implementation."""

from __future__ import annotations

from html import escape
from typing import Final

from netemu.bench.user import IMPLEMENTATIONS, Comparison

__all__ = ["plot", "table"]

_NONE: Final = "-"
_WIDTH: Final = 720
_LABEL: Final = 190
_BAR: Final = 11
_GROUP: Final = _BAR * len(IMPLEMENTATIONS) + 10
_TOP: Final = 48
_ROOM: Final = _WIDTH - _LABEL - 90
_COLOURS: Final = ("#2f5d8a", "#b3382c", "#c79a3a")


def _text(figure: float | None) -> str:
    if figure is None:
        return _NONE
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.2f}"


def table(comparison: Comparison) -> list[tuple[str, ...]]:
    """A head, then the medians of each measure and the ratio of ours to the better of the others (more is always better)."""
    rows = [("measure", "MTU", "unit", *IMPLEMENTATIONS, "ratio")]
    for measure, mtu in comparison.rows():
        medians = (_text(comparison.median(measure, mtu, implementation)) for implementation in IMPLEMENTATIONS)
        rows.append((measure, str(mtu), comparison.units[measure][0], *medians, _text(comparison.ratio(measure, mtu))))
    return rows


def plot(comparison: Comparison) -> str:
    """The medians as an SVG drawing; each group has its own scale."""
    height = _TOP + len(comparison.rows()) * _GROUP + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fbfaf7"/>',
    ]
    for place, (name, colour) in enumerate(zip(IMPLEMENTATIONS, _COLOURS, strict=True)):
        left = _LABEL + place * 130
        parts.append(f'<rect x="{left}" y="16" width="11" height="11" fill="{colour}"/><text x="{left + 16}" y="26">{name}</text>')
    for number, (measure, mtu) in enumerate(comparison.rows()):
        parts += _group(comparison, measure, mtu, _TOP + number * _GROUP)
    return "\n".join((*parts, "</svg>\n"))


def _group(comparison: Comparison, measure: str, mtu: int, top: int) -> list[str]:
    unit, more_is_better = comparison.units[measure]
    medians = [comparison.median(measure, mtu, implementation) for implementation in IMPLEMENTATIONS]
    most = max((median for median in medians if median), default=1.0)
    label = f"{measure} ({mtu}), {unit}" + ("" if more_is_better else ", less is better")
    parts = [f'<text x="{_LABEL - 8}" y="{top + _GROUP / 2 - 2:.0f}" text-anchor="end">{escape(label)}</text>']
    for place, (median, colour) in enumerate(zip(medians, _COLOURS, strict=True)):
        y, width = top + place * _BAR, _ROOM * max(median or 0.0, 0.0) / most
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR - 1}" fill="{colour}"/>')
        parts.append(f'<text x="{_LABEL + width + 5:.1f}" y="{y + _BAR - 2}" fill="#5b6675">{_text(median)}</text>')
    return parts
