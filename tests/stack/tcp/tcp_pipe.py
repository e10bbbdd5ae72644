"""Two connections, a wire with a delay and a fault schedule between them, and a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address
from itertools import count

from netemu.stack.tcp import ReceiveBuffer, SendBuffer, State, TcpConfig, TcpConnection
from netemu.wire.address import Endpoint
from netemu.wire.tcp import Tcp, flags_text

MS = 1_000_000
SECOND = 1_000_000_000
START = 1000 * SECOND

A = Endpoint(IPv4Address("192.0.2.1"), 40000)
B = Endpoint(IPv4Address("192.0.2.2"), 80)

Fault = Callable[[str, int, Tcp], list[int]]
"""(direction "a" or "b" of the sender, number of the segment, segment) -> extra delays, one for each copy; [] drops it."""


def no_fault(sender: str, number: int, segment: Tcp) -> list[int]:
    return [0]


@dataclass
class Host:
    config: TcpConfig = field(default_factory=TcpConfig)
    local: Endpoint = A
    remote: Endpoint = B
    isn: int = 1000
    send_capacity: int = 1 << 18
    receive_capacity: int = 1 << 18

    def __post_init__(self) -> None:
        self.source = SendBuffer(self.send_capacity)
        self.sink = ReceiveBuffer(self.receive_capacity)
        self.connection = TcpConnection(
            self.config, self.local, self.remote, self.source, self.sink, self.isn, timestamp_offset=self.isn
        )
        self.to_send = memoryview(b"")
        self.close_when_sent = False
        self.reading = True
        self.received = bytearray()

    @property
    def state(self) -> State:
        return self.connection.state

    def work(self, now: int) -> None:
        """The application: write what fits, read what came."""
        if self.to_send:
            taken = self.source.write(self.to_send[: self.source.room])
            self.to_send = self.to_send[taken:]
            if taken:
                self.connection.source_ready(now)
        if self.close_when_sent and not self.to_send:
            self.close_when_sent = False
            self.source.finish()
            self.connection.source_ready(now)
        if self.reading and self.sink.available():
            self.received += self.sink.read()
            self.connection.sink_ready(now)


class Pipe:
    """`run` moves segments and time until a condition holds, everything is quiet, or a limit is passed."""

    def __init__(
        self,
        a: Host | None = None,
        b: Host | None = None,
        *,
        delay: int = 10 * MS,
        fault: Fault = no_fault,
    ) -> None:
        self.a = a or Host()
        self.b = b or Host(local=B, remote=A, isn=500_000)
        self.now = START
        self.delay = delay
        self.fault = fault
        self.log: list[tuple[int, str, Tcp]] = []
        self.keep_log = True
        self._wire: list[tuple[int, int, str, Tcp]] = []
        self._order = count()
        self._numbers = {"a": count(), "b": count()}

    def connect(self) -> Pipe:
        self.a.connection.open_active(self.now)
        self.run(until=lambda: self.a.state is State.ESTABLISHED and self.b.state is State.ESTABLISHED)
        assert self.a.state is State.ESTABLISHED
        assert self.b.state is State.ESTABLISHED
        return self

    def flush(self) -> None:
        """Let both applications work and put on the wire what they and their connections have to say."""
        for name, host in (("a", self.a), ("b", self.b)):
            host.work(self.now)
            for segment in host.connection.transmit(self.now):
                self.put(name, segment)

    def put(self, name: str, segment: Tcp) -> None:
        if self.keep_log:
            self.log.append((self.now, name, segment))
        for extra in self.fault(name, next(self._numbers[name]), segment):
            heappush(self._wire, (self.now + self.delay + extra, next(self._order), name, segment))

    def step(self, limit: int) -> bool:
        """One arrival or timer; false when nothing happens up to `limit`."""
        self.flush()
        times = [
            time
            for time in (
                self._wire[0][0] if self._wire else None,
                self.a.connection.deadline(),
                self.b.connection.deadline(),
            )
            if time is not None
        ]
        if not times or min(times) > limit:
            return False
        self.now = max(self.now, min(times))
        if self._wire and self._wire[0][0] <= self.now:
            _, _, name, segment = heappop(self._wire)
            self._deliver(self.b if name == "a" else self.a, segment)
        else:
            self.a.connection.expire(self.now)
            self.b.connection.expire(self.now)
        return True

    def _deliver(self, host: Host, segment: Tcp) -> None:
        connection = host.connection
        if connection.state is State.CLOSED and segment.flags & 0x17 == 2 and connection._tcb.opened_at is None:
            connection.open_passive(segment, self.now)
        else:
            connection.receive(segment, self.now)

    def run(self, *, until: Callable[[], bool] = lambda: False, duration: int = 3600 * SECOND, steps: int = 500_000) -> Pipe:
        limit = self.now + duration
        for _ in range(steps):
            if until():
                return self
            if not self.step(limit):
                if not self._wire and duration < 3600 * SECOND:
                    self.now = limit
                return self
        raise AssertionError(f"no end after {steps} steps: {self.a.connection} {self.b.connection}")

    def sent_by(self, name: str) -> list[Tcp]:
        return [segment for _, sender, segment in self.log if sender == name]

    def ladder(self) -> str:
        return "\n".join(
            f"{(time - START) / SECOND:12.6f} {name} {flags_text(segment.flags)} seq={segment.sequence} "
            f"ack={segment.acknowledgment} win={segment.window} len={len(segment.payload)} {segment.options}"
            for time, name, segment in self.log
        )


def transfer(pipe: Pipe, data: bytes, back: bytes = b"") -> None:
    """Send both ways at once, close, and check what arrived."""
    pipe.a.to_send, pipe.b.to_send = memoryview(data), memoryview(back)
    pipe.a.close_when_sent = pipe.b.close_when_sent = True
    pipe.a.connection.open_active(pipe.now)
    pipe.run(duration=10**15)
    assert pipe.b.received == data
    assert pipe.a.received == back
    assert pipe.a.state is pipe.b.state is State.CLOSED
    assert pipe.a.connection.error == pipe.b.connection.error == 0


class Script:
    """One connection and a peer that is written by hand: `give` a segment, get what is answered."""

    def __init__(self, config: TcpConfig | None = None, **host: object) -> None:
        self.host = Host(config or TcpConfig(timestamps=False, window_scale=None), **host)  # type: ignore[arg-type] # test sugar
        self.connection = self.host.connection
        self.now = START
        self.isn = self.host.isn

    @property
    def state(self) -> State:
        return self.connection.state

    def segment(self, flags: int, sequence: int, acknowledgment: int = 0, payload: bytes = b"", **more: object) -> Tcp:
        more.setdefault("window", 65535)
        return Tcp(
            self.host.remote.port,
            self.host.local.port,
            sequence & 0xFFFFFFFF,
            acknowledgment & 0xFFFFFFFF,
            flags,
            payload=payload,
            **more,  # type: ignore[arg-type] # test sugar
        )

    def give(self, flags: int, sequence: int, acknowledgment: int = 0, payload: bytes = b"", **more: object) -> list[Tcp]:
        self.connection.receive(self.segment(flags, sequence, acknowledgment, payload, **more), self.now)
        return self.sent()

    def sent(self) -> list[Tcp]:
        return self.connection.transmit(self.now)

    def write(self, data: bytes) -> list[Tcp]:
        self.host.source.write(data)
        self.connection.source_ready(self.now)
        return self.sent()

    def wait(self, duration: int) -> list[Tcp]:
        """Let time pass and timers run; everything that was sent meanwhile."""
        end = self.now + duration
        sent = self.sent()
        while (deadline := self.connection.deadline()) is not None and deadline <= end:
            self.now = max(deadline, self.now)
            self.connection.expire(self.now)
            sent += self.sent()
        self.now = end
        return sent

    def established(self, peer_isn: int = 5000, *, passive: bool = False, **syn: object) -> Script:
        """Shake hands: the peer's next number is `peer_isn + 1`, ours `isn + 1`."""
        if passive:
            self.connection.open_passive(self.segment(2, peer_isn, **syn), self.now)
            self.sent()
            self.give(16, peer_isn + 1, self.isn + 1)
        else:
            self.connection.open_active(self.now)
            self.sent()
            self.give(18, peer_isn, self.isn + 1, **syn)
        assert self.state is State.ESTABLISHED
        return self
