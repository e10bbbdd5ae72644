"""A DHCP client: every state of RFC 2131 figure 5, as a machine without sockets.

Theory of operation. The owner starts it, gives it the payloads that come to UDP port 68, and calls `expire` when `deadline` has
come. What it wants done are events, in order: messages to send, an address to claim (the ARP check of RFC 2131 4.4.1), a lease to
configure or to drop. The table `_TRANSITIONS` is the machine; entering a state does what `_ENTER` names. CHECKING is the
one state that the figure has not: it is the arrow from REQUESTING to BOUND while the owner's claim runs.

    STOPPED      start             INIT         start with a lease  INIT_REBOOT
    INIT         pause over        SELECTING    DISCOVER is sent
    SELECTING    OFFER             REQUESTING   the first acceptable one is requested
    REQUESTING   ACK               CHECKING     NAK or silence: INIT
    INIT_REBOOT  pause over        REBOOTING    REQUEST without a server is broadcast
    REBOOTING    ACK               CHECKING     NAK or silence: INIT
    CHECKING     claimed           BOUND        conflict: DECLINE, ten seconds of pause, INIT
    BOUND        T1                RENEWING     REQUEST by unicast; conflict: DECLINE, INIT
    RENEWING     ACK               BOUND        T2: REBINDING; NAK: INIT
    REBINDING    ACK               BOUND        lease expired or NAK: INIT
    any          release, stop     STOPPED

Answers are believed if their transaction and hardware address are ours and, where we chose a server, if they come from it. Times
run from the sending of the REQUEST (4.4.1); each REQUEST of RENEWING and REBINDING has its own transaction, so that it is
known which one was answered.

Documents: RFC 2131 (3.1, 3.2, 4.1, 4.4), RFC 2132, RFC 5227 through the owner. What is not done: DHCPINFORM, the random
delay before the first DISCOVER (4.4.1; it spreads machines that power on together), fuzz on T1 and T2 (4.4.5), RFC 4361.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from netemu.net.clock import SECOND
from netemu.stack.dhcp_messages import DhcpClientConfig, DhcpRequests, lease_from
from netemu.stack.icmp import is_martian
from netemu.stack.lease import Lease
from netemu.stack.routes import LIMITED_BROADCAST
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4 import BOOTREPLY, DhcpMessageType, Dhcpv4
from netemu.wire.errors import WireError
from netemu.wire.fields import ANY_IPV4

__all__ = ["Bound", "Claim", "DhcpClient", "DhcpEvent", "DhcpState", "Lost", "SendDhcp"]

DECLINE_PAUSE: Final = 10 * SECOND  # RFC 2131 3.1.5: a minimum of ten seconds
RETRANSMISSIONS: Final = (4 * SECOND, 8 * SECOND, 16 * SECOND, 32 * SECOND, 64 * SECOND)  # RFC 2131 4.1
REQUEST_TRIES: Final = 4  # 4 + 8 + 16 + 32: "a total delay of 60 seconds" (RFC 2131 3.1.5)
EXTEND_INTERVAL: Final = 60 * SECOND  # the least between REQUESTs of RENEWING and REBINDING (RFC 2131 4.4.5)
INFINITE: Final = 0xFFFFFFFF  # RFC 2131 3.3


class DhcpState(Enum):
    """The states of RFC 2131 figure 5, CHECKING, and STOPPED for a client that does not run."""

    STOPPED = auto()
    INIT = auto()
    SELECTING = auto()
    REQUESTING = auto()
    INIT_REBOOT = auto()
    REBOOTING = auto()
    CHECKING = auto()
    BOUND = auto()
    RENEWING = auto()
    REBINDING = auto()


class _Input(Enum):
    START = auto()
    START_WITH_LEASE = auto()
    PAUSE_OVER = auto()
    OFFER = auto()
    ACK = auto()
    NAK = auto()
    SILENCE = auto()
    CLAIMED = auto()
    CONFLICT = auto()
    T1 = auto()
    T2 = auto()
    EXPIRED = auto()


_S, _I = DhcpState, _Input
_TRANSITIONS: Final = {
    (_S.STOPPED, _I.START): _S.INIT,
    (_S.STOPPED, _I.START_WITH_LEASE): _S.INIT_REBOOT,
    (_S.INIT, _I.PAUSE_OVER): _S.SELECTING,
    (_S.SELECTING, _I.OFFER): _S.REQUESTING,
    (_S.REQUESTING, _I.ACK): _S.CHECKING,
    (_S.REQUESTING, _I.NAK): _S.INIT,
    (_S.REQUESTING, _I.SILENCE): _S.INIT,
    (_S.INIT_REBOOT, _I.PAUSE_OVER): _S.REBOOTING,
    (_S.REBOOTING, _I.ACK): _S.CHECKING,
    (_S.REBOOTING, _I.NAK): _S.INIT,
    (_S.REBOOTING, _I.SILENCE): _S.INIT,
    (_S.CHECKING, _I.CLAIMED): _S.BOUND,
    (_S.CHECKING, _I.CONFLICT): _S.INIT,
    (_S.BOUND, _I.CONFLICT): _S.INIT,
    (_S.BOUND, _I.T1): _S.RENEWING,
    (_S.RENEWING, _I.ACK): _S.BOUND,
    (_S.RENEWING, _I.NAK): _S.INIT,
    (_S.RENEWING, _I.CONFLICT): _S.INIT,
    (_S.RENEWING, _I.T2): _S.REBINDING,
    (_S.REBINDING, _I.ACK): _S.BOUND,
    (_S.REBINDING, _I.NAK): _S.INIT,
    (_S.REBINDING, _I.CONFLICT): _S.INIT,
    (_S.REBINDING, _I.EXPIRED): _S.INIT,
}
_MILESTONES: Final = {_S.BOUND: _I.T1, _S.RENEWING: _I.T2, _S.REBINDING: _I.EXPIRED}
_CONFIGURED: Final = frozenset(_MILESTONES)
_ANSWERS: Final = {
    DhcpMessageType.OFFER: _I.OFFER,
    DhcpMessageType.ACK: _I.ACK,
    DhcpMessageType.NAK: _I.NAK,
}
_FROM_OUR_SERVER: Final = frozenset((_S.REQUESTING, _S.RENEWING))


@dataclass(frozen=True, slots=True)
class SendDhcp:
    """Send `message` from port 68 of `source` to port 67 of `destination`, which may be the limited broadcast address."""

    message: Dhcpv4
    source: IPv4Address
    destination: IPv4Address


@dataclass(frozen=True, slots=True)
class Claim:
    """Find out whether somebody uses the address; answer with `claimed` or `conflict`."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Bound:
    """Use this lease: it is new, or (`renewed`) the time of the one in use was extended."""

    lease: Lease
    renewed: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Stop using this lease: `reason` is `expired`, `nak`, `conflict`, `released` or `stopped`."""

    lease: Lease
    reason: str


DhcpEvent: TypeAlias = SendDhcp | Claim | Bound | Lost


class DhcpClient:
    """One interface's client. `getrandbits` gives transaction identifiers and spreads retransmissions.

    `counters`: `dhcp-malformed`, `dhcp-not-ours` (transaction, address or direction), `dhcp-unexpected` (state),
    `dhcp-other-server`, `dhcp-unacceptable` (no address, no lease time, no server).
    """

    def __init__(self, mac: MacAddress, getrandbits: Callable[[int], int], config: DhcpClientConfig | None = None) -> None:
        self.state = DhcpState.STOPPED
        self.lease: Lease | None = None
        self.counters: Counter[str] = Counter()
        self._mac = mac
        self._getrandbits = getrandbits
        self._requests = DhcpRequests(mac, config or DhcpClientConfig())
        self._events: list[DhcpEvent] = []
        self._candidate: Lease | None = None  # offered, remembered or being checked
        self._xid = 0
        self._began = 0
        self._secs = 0
        self._requested_at = 0
        self._tries = 0
        self._refusals = 0
        self._pause = 0
        self._send_at: int | None = None
        self._milestones: dict[DhcpState, int] = {}

    # What the owner tells.

    def start(self, now: int, previous: Lease | None = None) -> None:
        """Begin, or begin again; with a `previous` lease by asking whether it still holds (INIT-REBOOT)."""
        self.stop("stopped")
        self._candidate = previous
        self._refusals = self._pause = 0
        self._step(_Input.START_WITH_LEASE if previous else _Input.START, now)

    def receive(self, payload: bytes, now: int) -> None:
        """A datagram came to port 68."""
        try:
            message = Dhcpv4.parse(payload)
        except WireError:
            self.counters["dhcp-malformed"] += 1
            return
        answer = _ANSWERS.get(message.message_type) if message.message_type else None
        if message.op != BOOTREPLY or message.xid != self._xid or message.chaddr != self._mac:
            self.counters["dhcp-not-ours"] += 1
        elif answer is None or (self.state, answer) not in _TRANSITIONS:
            self.counters["dhcp-unexpected"] += 1
        elif self._is_other_server(message):
            self.counters["dhcp-other-server"] += 1
        elif answer is _Input.NAK:
            self._refused(now)
        else:
            self._granted(answer, message, now)

    def claimed(self, now: int) -> None:
        """The address of the last `Claim` is ours."""
        self._step(_Input.CLAIMED, now)

    def conflict(self, now: int) -> None:
        """Somebody else uses the address: DECLINE it, and start again in ten seconds (RFC 2131 3.1.5)."""
        lease = self.lease or self._candidate
        if lease is None or (self.state, _Input.CONFLICT) not in _TRANSITIONS:
            return
        self._xid = self._getrandbits(32)
        self._send(self._requests.decline(self._xid, lease))
        self._lose("conflict")
        self._pause = DECLINE_PAUSE
        self._step(_Input.CONFLICT, now)

    def renew(self, now: int) -> None:
        """Ask for more time now, not at T1. Nothing happens without a lease in use."""
        if self.state is DhcpState.BOUND:
            self._step(_Input.T1, now)

    def release(self) -> None:
        """Give the address back and stop (RFC 2131 4.4.6)."""
        if self.lease is not None:
            self._xid = self._getrandbits(32)
            server = self.lease.server or LIMITED_BROADCAST
            self._send(self._requests.release(self._xid, self.lease), self.lease.address, server)
        self.stop("released")

    def stop(self, reason: str = "stopped") -> None:
        """Stop without a word to the server; a lease in use is lost."""
        self._lose(reason)
        self.state = DhcpState.STOPPED
        self._candidate = self._send_at = None

    # Time and output.

    def events(self) -> list[DhcpEvent]:
        """What is to be done since the last call, in order."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> int | None:
        milestone = self._milestones.get(self.state)
        if milestone is None or self._send_at is None:
            return self._send_at if milestone is None else milestone
        return min(milestone, self._send_at)

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        while (due := self.deadline()) is not None and due <= now:
            if due == self._milestones.get(self.state):
                if self.state is DhcpState.REBINDING:
                    self._lose("expired")
                    self._pause = 0
                    self._step(_Input.EXPIRED, now)
                else:
                    self._step(_MILESTONES[self.state], now)
            elif (self.state, _Input.PAUSE_OVER) in _TRANSITIONS:
                self._step(_Input.PAUSE_OVER, now)
            elif (self.state, _Input.SILENCE) in _TRANSITIONS and self._tries >= REQUEST_TRIES:
                self._pause = 0
                self._step(_Input.SILENCE, now)
            else:
                _SAY[self.state](self, now)

    # Answers.

    def _is_other_server(self, message: Dhcpv4) -> bool:
        """In REQUESTING and RENEWING one server was addressed, and only that one counts."""
        if self.state not in _FROM_OUR_SERVER:
            return False
        chosen = self.lease or self._candidate
        return chosen is not None and message.server_identifier != chosen.server

    def _granted(self, answer: _Input, message: Dhcpv4, now: int) -> None:
        lease = lease_from(message)
        acceptable = not is_martian(int(lease.address)) and lease.server is not None
        if answer is _Input.ACK:
            acceptable = acceptable and bool(lease.lease_time)
            if self.lease is not None:
                acceptable = acceptable and lease.address == self.lease.address
        if not acceptable:
            self.counters["dhcp-unacceptable"] += 1
            return
        self._candidate = lease
        self._step(answer, now)

    def _refused(self, now: int) -> None:
        """A NAK: start again, at once the first time, later and later when servers keep refusing (against a live-lock)."""
        self._lose("nak")
        self._pause = RETRANSMISSIONS[min(self._refusals, len(RETRANSMISSIONS)) - 1] if self._refusals else 0
        self._refusals += 1
        self._step(_Input.NAK, now)

    # The machine.

    def _step(self, what: _Input, now: int) -> None:
        following = _TRANSITIONS.get((self.state, what))
        if following is None:
            return
        self.state = following
        self._tries = 0
        self._send_at = None
        _ENTER[following](self, now)

    def _enter_init(self, now: int) -> None:
        self._candidate = None
        self._begin(now)

    def _begin(self, now: int) -> None:
        self._send_at = now + self._pause

    def _enter_exchange(self, now: int) -> None:
        """SELECTING and REBOOTING begin a transaction of their own."""
        self._xid = self._getrandbits(32)
        self._began = self._requested_at = now
        _SAY[self.state](self, now)

    def _enter_requesting(self, now: int) -> None:
        self._requested_at = now
        self._request(now)

    def _enter_checking(self, now: int) -> None:  # noqa: ARG002 - the table's entries have one signature
        assert self._candidate is not None
        self._events.append(Claim(self._candidate))

    def _enter_bound(self, now: int) -> None:  # noqa: ARG002 - the table's entries have one signature
        assert self._candidate is not None
        renewed = self.lease is not None
        self.lease, self._candidate = self._candidate, None
        self._refusals = 0
        self._set_milestones(self.lease)
        self._events.append(Bound(self.lease, renewed))

    def _enter_extending(self, now: int) -> None:
        if self.state is DhcpState.RENEWING:
            self._began = now
        self._extend(now)

    # Messages, sent first on entry and then whenever `_send_at` comes.

    def _discover(self, now: int) -> None:
        self._secs = (now - self._began) // SECOND
        self._send(self._requests.discover(self._xid, self._secs))
        self._back_off(now)

    def _request(self, now: int) -> None:
        assert self._candidate is not None
        self._send(self._requests.select(self._xid, self._secs, self._candidate))
        self._back_off(now)

    def _reboot(self, now: int) -> None:
        assert self._candidate is not None
        self._send(self._requests.reboot(self._xid, (now - self._began) // SECOND, self._candidate.address))
        self._back_off(now)

    def _extend(self, now: int) -> None:
        assert self.lease is not None
        self._xid = self._getrandbits(32)
        self._requested_at = now
        message = self._requests.extend(self._xid, (now - self._began) // SECOND, self.lease.address)
        server = self.lease.server if self.state is DhcpState.RENEWING else None
        self._send(message, self.lease.address, server or LIMITED_BROADCAST)
        milestone = self._milestones.get(self.state)
        remaining = milestone - now if milestone is not None else 0
        self._send_at = now + max(EXTEND_INTERVAL, remaining // 2)

    def _back_off(self, now: int) -> None:
        """4, 8, 16, 32, 64, 64... seconds, each give or take up to one (RFC 2131 4.1)."""
        spread = self._getrandbits(32) * 2 * SECOND // 0xFFFFFFFF - SECOND
        self._send_at = now + RETRANSMISSIONS[min(self._tries, len(RETRANSMISSIONS) - 1)] + spread
        self._tries += 1

    def _send(self, message: Dhcpv4, source: IPv4Address = ANY_IPV4, destination: IPv4Address = LIMITED_BROADCAST) -> None:
        self._events.append(SendDhcp(message, source, destination))

    def _lose(self, reason: str) -> None:
        if self.lease is not None:
            self._events.append(Lost(self.lease, reason))
        self.lease = None
        self._milestones.clear()

    def _set_milestones(self, lease: Lease) -> None:
        """T1, T2 and the end; the defaults where the server gave none, or none that make sense (RFC 2131 4.4.5)."""
        self._milestones.clear()
        if lease.lease_time is None or lease.lease_time == INFINITE:
            return
        end = lease.lease_time * SECOND
        t1, t2 = end // 2, end * 7 // 8
        wanted1 = t1 if lease.renewal_time is None else lease.renewal_time * SECOND
        wanted2 = t2 if lease.rebinding_time is None else lease.rebinding_time * SECOND
        if wanted1 <= wanted2 <= end:
            t1, t2 = wanted1, wanted2
        for state, moment in zip(_MILESTONES, (t1, t2, end), strict=True):
            self._milestones[state] = self._requested_at + moment


_Action: TypeAlias = Callable[[DhcpClient, int], None]

_ENTER: Final[dict[DhcpState, _Action]] = {
    _S.INIT: DhcpClient._enter_init,
    _S.SELECTING: DhcpClient._enter_exchange,
    _S.REQUESTING: DhcpClient._enter_requesting,
    _S.INIT_REBOOT: DhcpClient._begin,
    _S.REBOOTING: DhcpClient._enter_exchange,
    _S.CHECKING: DhcpClient._enter_checking,
    _S.BOUND: DhcpClient._enter_bound,
    _S.RENEWING: DhcpClient._enter_extending,
    _S.REBINDING: DhcpClient._enter_extending,
}
_SAY: Final[dict[DhcpState, _Action]] = {
    _S.SELECTING: DhcpClient._discover,
    _S.REQUESTING: DhcpClient._request,
    _S.REBOOTING: DhcpClient._reboot,
    _S.RENEWING: DhcpClient._extend,
    _S.REBINDING: DhcpClient._extend,
}
