"""docs/hostile.md says what the tests of bad input and floods replay, no less and no more."""

import re
from pathlib import Path

from test_user_floods import FLOODS
from test_user_hostile_classes import CLASSES, Hostile
from test_user_hostile_tcp import TEXTS

TEXT = (Path(__file__).parents[2] / "docs" / "hostile.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under `heading`, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


def outcome(row: Hostile) -> str:
    counted = ", ".join(f"`{name}`" for name in row.counted)
    return " and ".join(filter(None, (counted, "answered" if row.answered else "")))


def test_the_classes_are_those_of_the_tests() -> None:
    assert rows("Bad input") == [[row.name, row.what, outcome(row)] for row in CLASSES]


def test_the_texts_are_those_of_the_tests() -> None:
    assert [" and ".join(cells[0].split(", ")) + f": {cells[1]}" for cells in rows("Texts")] == list(TEXTS)


def test_the_floods_are_those_of_the_tests() -> None:
    assert rows("Floods") == [[flood.name, f"{flood.limit // 1024} KiB"] for flood in FLOODS]
