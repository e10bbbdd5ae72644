"""The one error of this room: these bytes are not what they claim to be."""

from __future__ import annotations

from netemu.errors import PeerError

__all__ = ["WireError"]


class WireError(PeerError, ValueError):
    """Bytes that break the format's rules.

    `field` is the specification's name of the field, with its format in front (`ipv4.total_length`); `offset` is where it
    begins, in octets from the start of that format's header; `rule` is one clause of a sentence.
    """

    def __init__(self, field: str, offset: int, rule: str) -> None:
        super().__init__(f"{field} at octet {offset}: {rule}")
        self.field = field
        self.offset = offset
        self.rule = rule
