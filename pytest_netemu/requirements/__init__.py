"""The requirements catalogue: what the documents demand, sentence by sentence, and what we do about each.

One TOML file a document. A requirement's name is `<document>/<section>/<number>`, such as `rfc2131/4.3.1/07`; numbers are
given once and never reused, so a name in a report stays true. `quote` is the document's own sentence (or the part of it
that binds).

    [document]
    id = "rfc2131"
    title = "Dynamic Host Configuration Protocol"
    edition = "1997-03"
    url = "https://www.rfc-editor.org/rfc/rfc2131"

    [[requirement]]
    id = "rfc2131/4.3.1/07"
    level = "MUST"
    role = "server"
    status = "tested"
    quote = "..."

`level` is what the sentence says: MUST, SHOULD or MAY (and their negatives), or `descriptive` for documents that are older
than RFC 2119 or do not use its words; a descriptive sentence binds like a MUST. `status` is `tested` (a check of a shipped
suite names it), `implied` (another tested requirement cannot hold without it), `exception` (deliberately not met),
`not-applicable` or `todo`; all but the first need a `reason`. `issue` may name where it is discussed, and `errata` (a list of
numbers) the RFC's errata that the quote takes into account.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from netemu.errors import LocalError

__all__ = ["LEVELS", "ROLES", "STATUSES", "Document", "Requirement", "catalogue", "parse_document", "snapshot"]

LEVELS = ("MUST", "SHOULD", "MAY", "descriptive")
STATUSES = ("tested", "implied", "exception", "not-applicable", "todo")

# Who must do it, and which side of the wall that is; None is either, and then the wall decides.
ROLES = {
    "client": "guest",
    "endpoint": None,
    "host": None,
    "nat": "backend",
    "router": "backend",
    "server": "backend",
}

_DOCUMENT_KEYS = frozenset({"id", "title", "edition", "url"})
_NEEDED_KEYS = frozenset({"id", "level", "role", "status", "quote"})
_KNOWN_KEYS = _NEEDED_KEYS | {"reason", "issue", "errata"}


@dataclass(frozen=True, slots=True)
class Document:
    """A document and the edition that was read."""

    id: str
    title: str
    edition: str
    url: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One sentence of a document that binds somebody."""

    id: str
    document: Document
    section: str
    level: str
    role: str
    status: str
    quote: str
    reason: str | None = None
    issue: str | None = None
    errata: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """Where the sentence can be read; RFCs are opened at the section."""
        anchor = f"#section-{self.section}" if self.document.id.startswith("rfc") and self.section[0].isdigit() else ""
        return self.document.url + anchor

    @property
    def side(self) -> str | None:
        """`backend` or `guest`: which implementation a failure of it speaks about; None where it binds both."""
        return ROLES[self.role]


def parse_document(text: str, name: str) -> list[Requirement]:
    """The requirements of one TOML file; `name` is said in errors. Raises `LocalError`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LocalError(f"{name} is no TOML: {error}") from None
    head = table.get("document", {})
    if set(head) != _DOCUMENT_KEYS:
        raise LocalError(f"{name}: [document] has the keys {_words(head)}; exactly {_words(_DOCUMENT_KEYS)} are needed")
    document = Document(**head)
    found: dict[str, Requirement] = {}
    for entry in table.get("requirement", []):
        requirement = _requirement(entry, document, name)
        if requirement.id in found:
            raise LocalError(f"{name}: {requirement.id} is there twice; give the second one a number of its own")
        found[requirement.id] = requirement
    return list(found.values())


def _requirement(entry: Mapping[str, Any], document: Document, name: str) -> Requirement:
    where = f"{name}: {entry.get('id', 'an entry without id')}"
    if unknown := set(entry) - _KNOWN_KEYS:
        raise LocalError(f"{where} has the key {_words(unknown)}; known are {_words(_KNOWN_KEYS)}")
    if missing := _NEEDED_KEYS - set(entry):
        raise LocalError(f"{where} lacks {_words(missing)}")
    for key, allowed in (("level", LEVELS), ("status", STATUSES), ("role", tuple(ROLES))):
        if entry[key] not in allowed:
            raise LocalError(f"{where} has {key} {entry[key]!r}; one of {', '.join(allowed)} is needed")
    parts = entry["id"].split("/")
    if len(parts) != 3 or parts[0] != document.id or not parts[1] or not parts[2].isdigit():
        raise LocalError(f"{where}: an id such as {document.id}/4.3.1/07 (document, section, number) is needed")
    if entry["status"] != "tested" and not entry.get("reason"):
        raise LocalError(f"{where} has status {entry['status']!r} without a reason; say why in one sentence")
    fields = {**entry, "errata": tuple(entry.get("errata", ()))}
    return Requirement(document=document, section=parts[1], **fields)


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


@cache
def catalogue() -> Mapping[str, Requirement]:
    """Every shipped requirement by id, in the order of the files' names and then of the file."""
    found: dict[str, Requirement] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            requirements = parse_document(file.read_text(encoding="utf-8"), file.name)
            found.update((requirement.id, requirement) for requirement in requirements)
    return found


def snapshot(requirements: Iterable[Requirement]) -> str:
    """The coverage as reviewable text: a line a requirement, grouped by document, with each document's count in front."""
    by_document: dict[Document, list[Requirement]] = {}
    for requirement in requirements:
        by_document.setdefault(requirement.document, []).append(requirement)
    lines = []
    for document, members in by_document.items():
        tested = sum(requirement.status == "tested" for requirement in members)
        lines.append(f"{document.id}: {document.title} ({document.edition}), {tested} of {len(members)} tested")
        for requirement in members:
            reason = f" - {requirement.reason}" if requirement.reason else ""
            lines.append(f"  {requirement.id} [{requirement.level}, {requirement.role}] {requirement.status}{reason}")
        lines.append("")
    return "\n".join(lines)
