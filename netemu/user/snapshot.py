"""The parts of a user-mode network as values: what `UserNetwork.save_state` takes and `load_state` puts back.

Each part of the network gives its own (`snapshot`) and takes it back (`restore`). Times are nanoseconds before or after the moment
of the snapshot, never negative, so the clocks of the two networks need not agree: no time passes between saving and loading.

What moves: leases, neighbours, the router's timing, the last IP identification, forwarded ports and the peers of UDP ones, UDP
mappings with their host port, ping sessions, and TCP connections with both of their ends. What does not, and is begun again by
whoever wants it: DNS questions, TFTP transfers, fragments and packets that wait, TCP handshakes. Counters begin at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netemu.io.streamstate import StreamSnapshot
from netemu.stack.neighbour import NeighbourSnapshot
from netemu.stack.tcp.snapshot import TcpSnapshot
from netemu.user.flow import Flow
from netemu.user.forward import Forward
from netemu.user.leases import LeaseSnapshot
from netemu.user.ra import RouterSnapshot
from netemu.wire.address import Endpoint, IPAddress

__all__ = [
    "ConnectionSnapshot",
    "EchoSnapshot",
    "Lost",
    "LostConnection",
    "MappingSnapshot",
    "NetworkSnapshot",
    "PeerSnapshot",
    "Restored",
    "Used",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a table of idle entries knows of each: octets, datagrams, its age and for how long nothing passed."""

    sent: int
    received: int
    datagrams_sent: int
    datagrams_received: int
    age: int
    idle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSnapshot(Used):
    """A UDP mapping: `local` is its port on the host, `remotes` whom it lets in."""

    guest: Endpoint
    local: Endpoint
    remotes: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSnapshot(Used):
    """A peer of a forwarded UDP port; the guest calls it `visible`."""

    forward: Forward
    address: Endpoint
    visible: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoSnapshot(Used):
    """A ping session."""

    guest: IPAddress
    identifier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSnapshot:
    """A TCP connection: the guest's end and the host's."""

    guest: Endpoint
    remote: Endpoint
    age: int
    connection: TcpSnapshot
    stream: StreamSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class LostConnection:
    """A TCP connection that could not be taken along, and why; the guest believes a RST with these numbers."""

    guest: Endpoint
    remote: Endpoint
    sequence: int
    acknowledgment: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSnapshot:
    """A whole network. `options` are those that guests can see, as text by name."""

    options: tuple[tuple[str, str], ...]
    identification: int
    router: RouterSnapshot
    leases: tuple[LeaseSnapshot, ...]
    leases6: tuple[LeaseSnapshot, ...]
    neighbours: tuple[NeighbourSnapshot, ...]
    neighbours6: tuple[NeighbourSnapshot, ...]
    forwards: tuple[Forward, ...]
    peers: tuple[PeerSnapshot, ...]
    mappings: tuple[MappingSnapshot, ...]
    sessions: tuple[EchoSnapshot, ...]
    connections: tuple[ConnectionSnapshot, ...]
    lost: tuple[LostConnection, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """Something that did not move, and why. `remote` is None where there is no such end; a forward's is the host's port."""

    protocol: Literal["tcp", "udp", "icmp", "hostfwd"]
    guest: Endpoint
    remote: Endpoint | None
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What `load_state` did: the flows that `moved`, and what was `lost`; lost connections were reset."""

    moved: tuple[Flow, ...]
    lost: tuple[Lost, ...]
