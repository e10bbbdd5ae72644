"""Ports and the queue between them: QEMU's flow-control contract (net/queue.c, net/net.c), without its recursion.

Two connected ports are each other's peer. `send` puts a frame into the peer's queue and returns; the loop delivers, so a receiver
that answers never runs inside its sender. The peer's receiver takes a frame (True) or says that it is busy (False): then the frame
stays first in the queue, nothing more is delivered until `flush`, and the sender is told to stop (`send` gives False and later
calls `on_writable`). A sender that does not stop fills the queue to its limit; what is over the limit is dropped and counted, never
lost in silence.

A frame is bytes with the destination address first and no frame check sequence. It may carry a virtio-net header with checksum and
segmentation requests. A port says which of them its receiver takes (`offloads`, the bits of `netemu.net.offload`), and its peer
may look before it sends. A request that the receiver does not take is done in software here, so a sender need not look.

A receiver that never sends from inside its call may offer to be called at once (`at_once`), with the sender's own memory, which the
sender will use again: what it keeps it copies. `send_view` does that while nothing waits, and is for senders that come in short
bursts; else the frame is copied and queued.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from netemu.errors import LocalError
from netemu.net.loop import Loop
from netemu.net.offload import lower, takes
from netemu.wire.errors import WireError
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["MAX_FRAME", "QUEUE_LIMIT", "Frame", "FrameView", "Port", "Receiver", "ViewReceiver", "connect"]

Frame = bytes
FrameView = bytes | memoryview
Receiver = Callable[[Frame, VnetHeader | None], bool]
ViewReceiver = Callable[[FrameView, VnetHeader | None], bool]

QUEUE_LIMIT = 10_000  # frames; QEMU's nc->incoming_queue limit (net/queue.c)
MAX_FRAME = 69_632  # octets; QEMU's NET_BUFSIZE (include/net/net.h), the longest frame any netdev carries
_BURST = 64  # frames delivered before other callbacks have their turn


class Port:
    """One end of a cable: where a NIC, a backend or a hub meets the network.

    `receiver` is called with each frame for this port; set it before the first frame comes. Counters are by reason:
    `sent`, `received`, `dropped-full`, `dropped-no-peer`, `dropped-link-down`, `dropped-oversize`, `dropped-offload` (a request
    that makes no sense). `on_offloads` is called when the peer's `offloads` may have changed.
    """

    def __init__(self, loop: Loop, name: str, receiver: Receiver | None = None) -> None:
        self.loop = loop
        self.name = name
        self.receiver = receiver
        self.peer: Port | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_link: Callable[[bool], None] | None = None
        self.on_offloads: Callable[[], None] | None = None
        self.offloads = 0
        self.link_up = True
        self.counters: Counter[str] = Counter()
        self._queue: deque[tuple[Frame, VnetHeader | None]] = deque()
        self._at_once: ViewReceiver | None = None
        self._scheduled = False
        self._blocked = False

    def __repr__(self) -> str:
        return f"<Port {self.name}>"

    @property
    def busy(self) -> bool:
        """The peer has said it cannot take more: a polite sender waits for `on_writable`."""
        return self.peer is not None and self.peer._blocked

    @property
    def queued(self) -> int:
        """Frames that wait for this port's receiver."""
        return len(self._queue)

    @property
    def peer_offloads(self) -> int:
        """What the peer's receiver takes; nothing without a peer."""
        return 0 if self.peer is None else self.peer.offloads

    def send(self, frame: Frame, header: VnetHeader | None = None) -> bool:
        """Give `frame` to the peer. False: the peer is busy, the frame is queued (or dropped if the queue is full)."""
        return self._send(frame, header, at_once=False)

    def send_view(self, frame: FrameView, header: VnetHeader | None = None) -> bool:
        """`send` for a frame in memory that will be used again.

        What nearly every frame of a busy network meets stands first: a receiver that takes it at once, as it is.
        """
        peer = self.peer
        if (
            peer is None
            or peer._at_once is None
            or peer._queue
            or peer._blocked
            or not (self.link_up and peer.link_up)
            or len(frame) > MAX_FRAME
            or (header is not None and not takes(peer.offloads, header))
        ):
            return self._send(frame, header, at_once=True)
        self.counters["sent"] += 1
        if peer._at_once(frame, header):
            peer.counters["received"] += 1
            return True
        peer._blocked = True
        return peer._enqueue(bytes(frame), header)

    def _send(self, frame: FrameView, header: VnetHeader | None, *, at_once: bool) -> bool:
        peer = self.peer
        if peer is None:
            self.counters["dropped-no-peer"] += 1
            return True
        if not (self.link_up and peer.link_up):
            self.counters["dropped-link-down"] += 1
            return True
        if len(frame) > MAX_FRAME:
            self.counters["dropped-oversize"] += 1
            return True
        self.counters["sent"] += 1
        if header is not None and not takes(peer.offloads, header):
            try:
                pieces = lower(frame, header)
            except WireError:
                self.counters["dropped-offload"] += 1
                return True
            return [peer._take(piece, None, at_once=at_once) for piece in pieces][-1]
        return peer._take(frame, header, at_once=at_once)

    def _take(self, frame: FrameView, header: VnetHeader | None, *, at_once: bool) -> bool:
        if not at_once or self._at_once is None or self._queue or self._blocked:
            return self._enqueue(bytes(frame), header)
        if self._at_once(frame, header):
            self.counters["received"] += 1
            return True
        self._blocked = True
        return self._enqueue(bytes(frame), header)

    def _enqueue(self, frame: Frame, header: VnetHeader | None) -> bool:
        if len(self._queue) >= QUEUE_LIMIT:
            self.counters["dropped-full"] += 1
            return False
        self._queue.append((frame, header))
        if not self._blocked:
            self._schedule()
        return not self._blocked

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        queue, receiver = self._queue, self.receiver
        if receiver is None:
            self._blocked = bool(queue)
            return
        for _ in range(min(_BURST, len(queue))):
            frame, header = queue[0]
            if not receiver(frame, header):
                self._blocked = True
                return
            queue.popleft()
            self.counters["received"] += 1
        if queue:
            self._schedule()

    def drain(self) -> None:
        """Have the peer's receiver take what waits there at once, for a sender that is about to unplug."""
        peer = self.peer
        while peer is not None and peer._queue and not peer._blocked:
            peer._deliver()

    def flush(self) -> None:
        """This port's receiver can take frames again: deliver what waited, then wake the sender."""
        self._blocked = False
        if self._queue:
            self._schedule()
        if self.peer is not None and self.peer.on_writable is not None:
            self.loop.call_soon(self.peer.on_writable)

    def attach(self, receiver: Receiver, *, offloads: int = 0, at_once: ViewReceiver | None = None) -> None:
        """Give this port its receiver; frames that came earlier are delivered to it."""
        self.receiver = receiver
        self.offloads = offloads
        self._at_once = at_once
        self.flush()
        if self.peer is not None:
            self.peer._tell_offloads()

    def _tell_offloads(self) -> None:
        if self.on_offloads is not None:
            self.on_offloads()

    def set_link(self, up: bool) -> None:
        """QMP `set_link`: with the link down, frames in either direction are dropped and counted, and so are those that wait here.

        What this port sent before and still waits at the peer has left, and arrives.
        """
        if up == self.link_up:
            return
        self.link_up = up
        if not up:
            self.counters["dropped-link-down"] += len(self._queue)
            self._queue.clear()
            self.flush()
        for port in (self, self.peer):
            if port is not None and port.on_link is not None:
                port.on_link(up)

    def disconnect(self) -> None:
        """Unplug: both ports are free again, what was queued for them is dropped and counted."""
        peer, self.peer = self.peer, None
        for port in (self, peer):
            if port is not None:
                port.peer = None
                port.counters["dropped-no-peer"] += len(port._queue)
                port._queue.clear()
                port._blocked = False


def connect(a: Port, b: Port) -> None:
    """Plug two free ports together. A port that has a peer is a `LocalError`: use a hub to join more than two."""
    for port in (a, b):
        if port.peer is not None:
            raise LocalError(f"port {port.name} is already connected to {port.peer.name}; join more than two with a hub")
    if a is b:
        raise LocalError(f"port {a.name} cannot be connected to itself")
    a.peer, b.peer = b, a
    a._tell_offloads()
    b._tell_offloads()
