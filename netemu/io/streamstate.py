"""What a TCP connection of a host's is at one moment, as a value: enough to let another socket go on with it.

A host that can (`Host.moves_streams`) takes a connection out of a socket (`park_stream`) and puts it into another
(`restore_stream`). In between the connection is parked: its peer's segments are not answered, so the peer waits and repeats them.

Sequence numbers are the 32 bits of the wire; `options` and `window` are None where the host's streams have no such thing.
"""

from __future__ import annotations

from dataclasses import dataclass

from netemu.errors import LocalError
from netemu.wire.address import Endpoint

__all__ = ["StreamOptions", "StreamSnapshot", "StreamWindow"]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What the two SYNs agreed on. `mss`: the most to send at once; the shifts are None without window scaling.

    `timestamp`: what TCP_TIMESTAMP gives (tcp(7)); None without timestamps.
    """

    mss: int
    send_shift: int | None
    receive_shift: int | None
    sack: bool
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """Both windows as struct tcp_repair_window has them (linux/tcp.h): SND.WL1, SND.WND, its maximum, RCV.WND, RCV.WUP."""

    snd_wl1: int
    snd_wnd: int
    max_window: int
    rcv_wnd: int
    rcv_wup: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSnapshot:
    """A connection between `local` and `remote`.

    `taken` are the octets that the peer has not acknowledged, of which the last `unsent` were never sent; the first has the number
    `send_sequence`. `received` are those that nobody has read; `receive_sequence` is the next number expected, behind the FIN of
    the peer if that came (`eof`). `finished`: ours was sent, or waits behind `taken`.
    """

    local: Endpoint
    remote: Endpoint
    send_sequence: int
    receive_sequence: int
    taken: bytes
    unsent: int
    received: bytes
    finished: bool
    eof: bool
    options: StreamOptions | None = None
    window: StreamWindow | None = None

    def __post_init__(self) -> None:
        numbers = [self.send_sequence, self.receive_sequence]
        if self.options is not None:
            numbers += [self.options.mss, self.options.timestamp or 0]
        if self.window is not None:
            window = self.window
            numbers += [window.snd_wl1, window.snd_wnd, window.max_window, window.rcv_wnd, window.rcv_wup]
        if not all(0 <= number < 1 << 32 for number in numbers) or not 0 <= self.unsent <= len(self.taken):
            raise LocalError(
                "a stream's snapshot holds a number that no TCP connection has; only what park_stream() gave can be restored"
            )
