"""Datagrams in fragments (RFC 791 3.2), as a check wants them cut."""

from __future__ import annotations

from dataclasses import replace

from netemu.wire.ipv4 import IPv4

__all__ = ["pieces"]


def pieces(datagram: IPv4, *sizes: int) -> list[IPv4]:
    """`datagram` in fragments, the first of `sizes` octets and so on, the last of what is left."""
    pieces, at = [], 0
    for size in (*sizes, len(datagram.payload)):
        payload = datagram.payload[at : at + size]
        more = at + len(payload) < len(datagram.payload)
        pieces.append(replace(datagram, payload=payload, fragment_offset=at, more_fragments=more))
        at += len(payload)
    return pieces
