"""Lists of domain names in options of IPv6: one after the other, never compressed (RFC 8106 5.2, RFC 8415 10)."""

from __future__ import annotations

from collections.abc import Iterable

from netemu.errors import LocalError
from netemu.wire.dns_name import name_labels, name_text, pack_labels, read_labels
from netemu.wire.errors import WireError

__all__ = ["pack_domain_list", "parse_domain_list"]


def pack_domain_list(names: Iterable[str]) -> bytes:
    """The names' octets; raises `LocalError` for a bad name, and for the root, which would read as padding."""
    packed = [pack_labels(name_labels(name)) for name in names]
    if b"\0" in packed:
        raise LocalError("the root in a list of domain names: give names with at least one label")
    return b"".join(packed)


def parse_domain_list(value: bytes, field: str) -> tuple[str, ...]:
    """The names in `value`, with any zeros behind them taken as padding; raises `WireError` naming `field`."""
    names = []
    at = 0
    while at < len(value) and value[at]:
        labels, end = read_labels(value, at, field)
        if pack_labels(labels) != value[at:end]:
            raise WireError(field, at, "the name is compressed")
        names.append(name_text(labels))
        at = end
    if value[at:].strip(b"\0"):
        raise WireError(field, at, "a name follows the padding")
    return tuple(names)
