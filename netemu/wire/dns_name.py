r"""Domain names: their text, their labels and their compressed octets (RFC 1035 3.1, 4.1.4 and 5.1).

A name is text without the final dot, `.` for the root. A dot or backslash inside a label is written `\.` and `\\`, an
octet that is not visible ASCII as `\DDD` (RFC 1035 5.1), so that any name read can be written again as it was.

A compression pointer must point in front of the run of labels that it ends, so following them always comes to an end; a
name follows at most 127 of them, for no name has more labels than that.
"""

from __future__ import annotations

import re
from typing import Final

from netemu.errors import LocalError
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer

__all__ = ["append_name", "name_labels", "name_text", "pack_labels", "read_labels"]

_MAXIMUM_NAME: Final = 255  # RFC 1035 2.3.4, the root's zero included
_MAXIMUM_LABEL: Final = 63  # RFC 1035 2.3.4
_MAXIMUM_JUMPS: Final = 127
_POINTER: Final = 0xC0  # RFC 1035 4.1.4
_POINTER_SPACE: Final = 0x4000
_SPECIAL: Final = re.compile(r"[^!-~]|[.\\]")
_PIECE: Final = re.compile(r"\\(\d\d\d|.)|(\.)|([^.\\]+)", re.DOTALL)


def read_labels(data: Buffer, at: int, field: str) -> tuple[list[bytes], int]:
    """The labels of the name at `at`, and where what follows it begins; raises `WireError` naming `field`."""
    labels: list[bytes] = []
    start = at
    after: int | None = None
    limit = at
    size = 1
    jumps = 0
    while True:
        if at >= len(data):
            raise WireError(field, start, "the name runs past the end")
        length = data[at]
        if length > _MAXIMUM_LABEL:
            if length < _POINTER:
                raise WireError(field, at, f"{length:#04x} begins neither a label nor a pointer")
            if at + 1 >= len(data):
                raise WireError(field, at, "the pointer runs past the end")
            target = (length & ~_POINTER) << 8 | data[at + 1]
            jumps += 1
            if target >= limit or jumps > _MAXIMUM_JUMPS:
                raise WireError(field, at, f"the pointer to octet {target} does not lead backwards")
            after = at + 2 if after is None else after
            at = limit = target
            continue
        at += 1
        if length == 0:
            return labels, at if after is None else after
        size += 1 + length
        if size > _MAXIMUM_NAME:
            raise WireError(field, start, "the name has more than 255 octets")
        if at + length > len(data):
            raise WireError(field, start, "the name runs past the end")
        labels.append(bytes(data[at : at + length]))
        at += length


def name_text(labels: list[bytes]) -> str:
    """The name as people write it, without the final dot."""
    return ".".join(_SPECIAL.sub(_escape, label.decode("latin-1")) for label in labels) or "."


def name_labels(name: str) -> list[bytes]:
    """The labels of a name as people write it, with or without the final dot; raises `LocalError`.

    Names outside ASCII must be given in their encoded form (`xn--...`).
    """
    labels = [bytearray()]
    at = 0
    while name != "." and at < len(name):
        piece = _PIECE.match(name, at)
        if piece is None:
            raise LocalError(f"domain name {name!r}: a backslash needs a character or three digits behind it")
        escaped, dot, plain = piece.groups()
        if dot:
            labels.append(bytearray())
        else:
            labels[-1] += _octets(name, plain, escaped)
        at = piece.end()
    if not labels[-1]:
        labels.pop()
    if not all(0 < len(label) <= _MAXIMUM_LABEL for label in labels):
        raise LocalError(f"domain name {name!r}: each label needs 1 to 63 octets")
    if sum(len(label) + 1 for label in labels) >= _MAXIMUM_NAME:
        raise LocalError(f"domain name {name!r}: a name has at most 255 octets")
    return [bytes(label) for label in labels]


def pack_labels(labels: list[bytes]) -> bytes:
    """The name's octets, not compressed."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def append_name(message: bytearray, name: str, targets: dict[tuple[bytes, ...], int]) -> None:
    """Write `name` at the end of `message`, compressed; `targets` remembers where earlier names and their ends are."""
    labels = name_labels(name)
    for index, label in enumerate(labels):
        rest = tuple(labels[index:])
        target = targets.get(rest)
        if target is not None:
            message += (_POINTER << 8 | target).to_bytes(2, "big")
            return
        if len(message) < _POINTER_SPACE:
            targets[rest] = len(message)
        message.append(len(label))
        message += label
    message.append(0)


def _escape(special: re.Match[str]) -> str:
    character = special[0]
    return f"\\{character}" if character in ".\\" else f"\\{ord(character):03d}"


def _octets(name: str, plain: str | None, escaped: str | None) -> bytes:
    """The octets of a run of plain characters, or of what stood behind a backslash."""
    if escaped is not None and len(escaped) == 3 and int(escaped) <= 0xFF:
        return bytes((int(escaped),))
    text = plain or escaped or ""
    if not text.isascii() or (escaped is not None and len(escaped) == 3):
        raise LocalError(f"domain name {name!r}: give ASCII, other octets as \\000 to \\255")
    return text.encode("ascii")
