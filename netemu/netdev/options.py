"""QEMU's option grammar: `type,key=value,key=value` (util/keyval.c and qemu-option.c).

The first part is the type. A comma inside a value is doubled. A key may come more than once (`hostfwd=`, `dnssearch=`), so the
result is pairs in their order, not a mapping. A key without a value means `on`, as in `user,restrict`.

What a key means is its type's business; `reject_unknown` is the sentence that all of them share. QEMU's JSON form
(`-netdev '{"type": ...}'`) is not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from netemu.errors import LocalError

__all__ = ["parse_options", "reject_unknown"]

_PART: Final = re.compile(r"(?:[^,]|,,)*")
_KEY: Final = re.compile(r"[a-z][a-z0-9.-]*")


def parse_options(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The type and the (key, value) pairs in `text`; raises `LocalError`."""
    parts = _split(text)
    kind = parts[0]
    if not _KEY.fullmatch(kind):
        raise LocalError(f"netdev {text!r}: a type comes first, as in user,restrict=on")
    pairs = []
    for part in parts[1:]:
        key, equals, value = part.partition("=")
        if not _KEY.fullmatch(key):
            raise LocalError(f"netdev {text!r}: {part!r} is no option; give key=value, and double a comma inside a value")
        pairs.append((key, value if equals else "on"))
    return kind, pairs


def reject_unknown(kind: str, pairs: Iterable[tuple[str, str]], allowed: Collection[str]) -> None:
    """Raise `LocalError` for the first key that is not `allowed`."""
    for key, _ in pairs:
        if key not in allowed:
            raise LocalError(f"netdev {kind} has no option {key!r}: it has {', '.join(sorted(allowed)) or 'none'}")


def _split(text: str) -> list[str]:
    parts = []
    at = 0
    while at <= len(text):
        part = _PART.match(text, at)
        assert part is not None  # the pattern matches the empty string too
        parts.append(part[0].replace(",,", ","))
        at = part.end() + 1
    return parts
