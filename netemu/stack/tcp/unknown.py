"""The answer to a segment that belongs to no connection (RFC 9293 3.5.2 group 1, 3.10.7.1)."""

from __future__ import annotations

from netemu.stack.tcp.sequence import wrap
from netemu.wire.tcp import ACK, RST, Tcp

__all__ = ["reply_to_unknown"]


def reply_to_unknown(segment: Tcp) -> Tcp | None:
    """The RST for `segment`, made so that its sender must believe it; None for a RST, which is never answered."""
    if segment.flags & RST:
        return None
    if segment.flags & ACK:
        sequence, acknowledgment, flags = segment.acknowledgment, 0, RST
    else:
        sequence, acknowledgment, flags = 0, wrap(segment.sequence + segment.segment_length), RST | ACK
    return Tcp(segment.destination_port, segment.source_port, sequence, acknowledgment, flags, window=0)
