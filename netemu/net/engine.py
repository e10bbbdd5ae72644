"""Engines, and the pump that joins one to a port and a loop.

An engine is a plain object without a clock: it takes frames and the time, gives frames, and names its next deadline. The pump does
what its surroundings must: it hands frames in, sends what comes out, stops while the port is busy, and keeps one timer for
the engine's deadline. When something other than a frame changes an engine (an application writes to a socket, a host's
socket becomes readable) whoever did it calls `Pump.kick`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from netemu.net.loop import Timer
from netemu.net.port import Frame, FrameView, Port
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["Engine", "OffloadEngine", "Pump"]


class Engine(Protocol):
    """A sans-IO machine with one Ethernet side. All times are nanoseconds."""

    def receive(self, frame: Frame, now: int) -> None:
        """A frame came in. Malformed ones are counted, never raised."""
        ...

    def transmit(self, now: int) -> Iterable[Frame]:
        """The frames to send now, oldest first; empty when there is nothing to say."""
        ...

    def deadline(self) -> int | None:
        """When `expire` wants to be called next; None: not before something happens."""
        ...

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        ...


@runtime_checkable
class OffloadEngine(Engine, Protocol):
    """An engine that takes and makes frames with virtio-net headers. The pump uses these two methods in place of the others."""

    @property
    def offloads(self) -> int:
        """What it takes, in the bits of `netemu.net.offload`."""
        ...

    def receive_offloaded(self, frame: FrameView, header: VnetHeader | None, now: int) -> bool:
        """A frame came in, in memory that will be used again. False: nothing is to be sent, and no deadline is earlier, for it."""
        ...

    def transmit_offloaded(self, now: int, offloads: int) -> Iterable[tuple[FrameView, VnetHeader | None]]:
        """The frames to send now to a receiver that takes `offloads`; each is good until the next one is asked for."""
        ...


class Pump:
    """Runs `engine` behind `port`."""

    def __init__(self, port: Port, engine: Engine) -> None:
        self.port = port
        self.engine = engine
        self._loop = port.loop
        self._timer: Timer | None = None
        self._deadline: int | None = None  # the engine's, when it was last asked
        self._kicked = False
        self._closed = False
        port.on_writable = self.kick
        self._offloading = engine if isinstance(engine, OffloadEngine) else None
        if self._offloading is None:
            port.attach(self._receive)
        else:
            port.attach(self._receive_offloaded, offloads=self._offloading.offloads, at_once=self._receive_offloaded)

    def _receive(self, frame: Frame, header: VnetHeader | None) -> bool:  # noqa: ARG002 - there is nothing in it: no offloads
        self.engine.receive(frame, self._loop.now())
        self.kick()
        return True

    def _receive_offloaded(self, frame: FrameView, header: VnetHeader | None) -> bool:
        assert self._offloading is not None
        if self._offloading.receive_offloaded(frame, header, self._loop.now()):
            self.kick()
        return True

    def kick(self) -> None:
        """The engine may have something to send or another deadline: look at it soon, once."""
        if not (self._kicked or self._closed):
            self._kicked = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._kicked = False
        if self._closed:
            return
        now = self._loop.now()
        if self._deadline is not None and self._deadline <= now:
            self.engine.expire(now)
        if not self.port.busy:
            self._send(now)
        self._arm()

    def _send(self, now: int) -> None:
        send = self.port.send_view
        if self._offloading is None:
            for frame in self.engine.transmit(now):
                send(frame)
        else:
            for view, header in self._offloading.transmit_offloaded(now, self.port.peer_offloads):
                send(view, header)

    def _arm(self) -> None:
        """A timer that is early is kept: most deadlines only ever move on, as a retransmission timer's does with each segment."""
        deadline = self._deadline = self.engine.deadline()
        timer = self._timer
        if timer is not None and not timer.cancelled:
            if deadline is not None and timer.when <= deadline:
                return
            timer.cancel()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self.kick)

    def finish(self) -> None:
        """Have the peer take the last there is to send, unless the port is busy or the pump was closed; then close."""
        if not (self._closed or self.port.busy):
            self._send(self._loop.now())
            self.port.drain()
        self.close()

    def close(self) -> None:
        """Stop: no timer of the engine's is left behind, and what was kicked before does nothing."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
