"""TCP (RFC 9293) as an engine without sockets, clocks or payload of its own; `connection` tells how it works."""

from __future__ import annotations

from netemu.stack.tcp.buffers import ReceiveBuffer, SendBuffer, Sink, Source
from netemu.stack.tcp.config import TcpConfig
from netemu.stack.tcp.connection import PlainSegment, TcpConnection
from netemu.stack.tcp.state import State
from netemu.stack.tcp.unknown import reply_to_unknown

__all__ = [
    "PlainSegment",
    "ReceiveBuffer",
    "SendBuffer",
    "Sink",
    "Source",
    "State",
    "TcpConfig",
    "TcpConnection",
    "reply_to_unknown",
]
