"""Every arrow of RFC 2131 figure 5, against a server that the test plays."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network

import pytest

from netemu.errors import LocalError
from netemu.net.clock import SECOND
from netemu.stack.dhcp_client import Bound, Claim, DhcpClient, DhcpEvent, DhcpState, Lost, SendDhcp
from netemu.stack.dhcp_messages import DhcpClientConfig, lease_from
from netemu.stack.lease import Lease
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4 import BOOTREPLY, BOOTREQUEST, DhcpMessageType, DhcpOption, Dhcpv4, pack_addresses

MAC = MacAddress("52:54:00:12:34:56")
NOBODY = IPv4Address("0.0.0.0")
EVERYBODY = IPv4Address("255.255.255.255")
ADDRESS = IPv4Address("10.0.2.15")
SERVER = IPv4Address("10.0.2.2")
OTHER_SERVER = IPv4Address("10.0.2.9")
HOUR = 3600
LEASE = Lease(ADDRESS, 24, server=SERVER, lease_time=HOUR)

S = DhcpState
Kind = DhcpMessageType


def middle(bits: int) -> int:
    """A generator whose spread of retransmissions is nothing."""
    return 1 << (bits - 1)


class Script:
    """A client, its clock, and the server's side of the conversation."""

    def __init__(self, getrandbits=middle, config: DhcpClientConfig | None = None) -> None:
        self.client = DhcpClient(MAC, getrandbits, config)
        self.now = 0
        self.last: Dhcpv4 | None = None

    def events(self) -> list[DhcpEvent]:
        events = self.client.events()
        for event in events:
            if isinstance(event, SendDhcp):
                self.last = event.message
        return events

    def sent(self) -> list[Kind]:
        return [event.message.message_type for event in self.events() if isinstance(event, SendDhcp)]

    def start(self, previous: Lease | None = None) -> None:
        self.client.start(self.now, previous)
        self.run_to(self.now)

    def run_to(self, when: int) -> None:
        """Let time pass, deadline by deadline."""
        while (due := self.client.deadline()) is not None and due <= when:
            assert due >= self.now
            self.now = due
            self.client.expire(due)
        self.now = when

    def answer(self, kind: Kind, *, xid: int | None = None, **fields) -> None:
        self.events()
        assert self.last is not None
        options = {
            DhcpOption.DHCP_MESSAGE_TYPE: bytes((kind,)),
            DhcpOption.SERVER_IDENTIFIER: fields.pop("server", SERVER).packed,
        }
        if kind is not Kind.NAK:
            options[DhcpOption.IP_ADDRESS_LEASE_TIME] = fields.pop("lease_time", HOUR).to_bytes(4, "big")
            options[DhcpOption.SUBNET_MASK] = bytes.fromhex("ffffff00")
            fields.setdefault("yiaddr", ADDRESS)
        options |= fields.pop("options", {})
        for missing in fields.pop("without", ()):
            del options[missing]
        message = Dhcpv4(BOOTREPLY, self.last.xid if xid is None else xid, fields.pop("chaddr", MAC), options=options, **fields)
        self.client.receive(message.pack(), self.now)

    def in_state(self, state: DhcpState) -> Script:
        """Walk from STOPPED to `state` by the shortest way."""
        if state in (S.REBOOTING, S.INIT_REBOOT):
            self.client.start(self.now, LEASE)
            if state is S.REBOOTING:
                self.run_to(self.now)
        elif state is not S.STOPPED:
            self.client.start(self.now)
            for reached, step in (
                (S.INIT, lambda: self.run_to(self.now)),
                (S.SELECTING, lambda: self.answer(Kind.OFFER)),
                (S.REQUESTING, lambda: self.answer(Kind.ACK)),
                (S.CHECKING, lambda: self.client.claimed(self.now)),
                (S.BOUND, lambda: self.run_to(self.now + HOUR // 2 * SECOND)),
                (S.RENEWING, lambda: self.run_to(self.now + HOUR * 3 // 8 * SECOND)),
            ):
                if reached is state:
                    break
                step()
        self.events()
        assert self.client.state is state
        return self


def at(state: DhcpState, **kwargs) -> Script:
    return Script(**kwargs).in_state(state)


# The arrows.


def test_discover_names_the_client_and_asks_everybody():
    script = Script(config=DhcpClientConfig(hostname="guest", requested=ADDRESS))
    script.start()
    (event,) = script.events()
    assert isinstance(event, SendDhcp)
    assert (event.source, event.destination) == (NOBODY, EVERYBODY)
    message = event.message
    assert (message.op, message.message_type, message.chaddr, message.ciaddr) == (BOOTREQUEST, Kind.DISCOVER, MAC, NOBODY)
    assert message.requested_address == ADDRESS
    assert message.server_identifier is None
    assert message.options[DhcpOption.HOST_NAME] == b"guest"
    wanted = message.options[DhcpOption.PARAMETER_REQUEST_LIST]
    assert {DhcpOption.SUBNET_MASK, DhcpOption.ROUTER, DhcpOption.DOMAIN_NAME_SERVER} <= set(wanted)
    assert wanted.index(DhcpOption.CLASSLESS_STATIC_ROUTE) < wanted.index(DhcpOption.ROUTER)


def test_first_acceptable_offer_is_requested_with_the_same_transaction_and_secs():
    script = at(S.SELECTING)
    script.run_to(4 * SECOND)
    discover = script.events()[0].message
    assert discover.secs == 4
    script.run_to(6 * SECOND)
    script.answer(Kind.OFFER)
    (event,) = script.events()
    request = event.message
    assert (event.source, event.destination) == (NOBODY, EVERYBODY)
    assert request.message_type is Kind.REQUEST
    assert (request.xid, request.secs, request.ciaddr) == (discover.xid, discover.secs, NOBODY)
    assert (request.requested_address, request.server_identifier) == (ADDRESS, SERVER)
    assert script.client.state is S.REQUESTING


def test_ack_is_checked_then_bound():
    script = at(S.REQUESTING)
    script.answer(Kind.ACK, options={DhcpOption.ROUTER: SERVER.packed, DhcpOption.DOMAIN_NAME: b"example.org\0"})
    (claim,) = script.events()
    assert isinstance(claim, Claim)
    assert script.client.state is S.CHECKING
    assert script.client.lease is None
    script.client.claimed(script.now)
    (bound,) = script.events()
    assert isinstance(bound, Bound)
    assert not bound.renewed
    lease = bound.lease
    assert lease is script.client.lease
    assert (lease.address, lease.network, lease.server) == (ADDRESS, IPv4Network("10.0.2.0/24"), SERVER)
    assert (lease.router, lease.lease_time, lease.domain) == (SERVER, HOUR, "example.org")


@pytest.mark.parametrize("state", [S.REQUESTING, S.REBOOTING])
def test_nak_before_a_lease_begins_again_at_once(state):
    script = at(state)
    script.answer(Kind.NAK)
    assert script.client.state is S.INIT
    assert script.events() == []
    script.run_to(script.now)
    assert script.sent() == [Kind.DISCOVER]


@pytest.mark.parametrize("state", [S.RENEWING, S.REBINDING])
def test_nak_loses_the_lease(state):
    script = at(state)
    lease = script.client.lease
    script.answer(Kind.NAK)
    assert script.events() == [Lost(lease, "nak")]
    assert script.client.lease is None
    script.run_to(script.now)
    assert script.client.state is S.SELECTING


def test_servers_that_keep_refusing_are_asked_less_and_less_often():
    script = Script()
    script.start()
    pauses = []
    for _ in range(7):
        script.answer(Kind.OFFER)
        script.answer(Kind.NAK)
        assert script.client.state is S.INIT
        pauses.append(script.client.deadline() - script.now)
        script.run_to(script.client.deadline())
    assert [pause // SECOND for pause in pauses] == [0, 4, 8, 16, 32, 64, 64]


def test_conflict_declines_and_waits_ten_seconds():
    script = at(S.CHECKING)
    script.client.conflict(script.now)
    (event,) = script.events()
    decline = event.message
    assert (event.source, event.destination) == (NOBODY, EVERYBODY)
    assert (decline.message_type, decline.ciaddr) == (Kind.DECLINE, NOBODY)
    assert (decline.requested_address, decline.server_identifier) == (ADDRESS, SERVER)
    assert DhcpOption.PARAMETER_REQUEST_LIST not in decline.options
    assert script.client.state is S.INIT
    assert script.client.deadline() == script.now + 10 * SECOND
    script.run_to(script.now + 10 * SECOND)
    assert script.sent() == [Kind.DISCOVER]


@pytest.mark.parametrize("state", [S.BOUND, S.RENEWING, S.REBINDING])
def test_conflict_over_an_address_in_use_loses_it(state):
    script = at(state)
    lease = script.client.lease
    script.client.conflict(script.now)
    decline, lost = script.events()
    assert decline.message.message_type is Kind.DECLINE
    assert lost == Lost(lease, "conflict")
    assert script.client.state is S.INIT


@pytest.mark.parametrize("state", [S.STOPPED, S.INIT, S.SELECTING, S.REQUESTING, S.INIT_REBOOT, S.REBOOTING])
def test_conflict_without_an_address_means_nothing(state):
    script = at(state)
    script.client.conflict(script.now)
    script.client.claimed(script.now)
    assert script.events() == []
    assert script.client.state is state


def test_init_reboot_asks_everybody_for_the_old_address():
    script = at(S.INIT_REBOOT)
    script.run_to(script.now)
    (event,) = script.events()
    assert (event.source, event.destination) == (NOBODY, EVERYBODY)
    assert event.message.message_type is Kind.REQUEST
    assert event.message.requested_address == ADDRESS
    assert event.message.server_identifier is None
    assert event.message.ciaddr == NOBODY
    script.answer(Kind.ACK, server=OTHER_SERVER)
    script.client.claimed(script.now)
    assert script.client.state is S.BOUND
    assert script.client.lease.server == OTHER_SERVER


# T1, T2 and the end, to the nanosecond.


def test_times_run_from_the_sending_of_the_request():
    script = at(S.REQUESTING)
    requested = script.now
    script.run_to(requested + 3 * SECOND)
    script.answer(Kind.ACK)
    script.run_to(requested + 3 * SECOND + 77)
    script.client.claimed(script.now)
    assert script.client.deadline() == requested + HOUR // 2 * SECOND


def test_t1_renews_by_unicast_t2_rebinds_by_broadcast_and_the_end_loses():
    script = at(S.BOUND)
    lease = script.client.lease
    t1, t2, end = (HOUR * SECOND // 2, HOUR * SECOND * 7 // 8, HOUR * SECOND)
    script.run_to(t1 - 1)
    assert script.client.state is S.BOUND
    script.run_to(t1)
    (renew,) = script.events()
    assert script.client.state is S.RENEWING
    assert (renew.source, renew.destination, renew.message.ciaddr) == (ADDRESS, SERVER, ADDRESS)
    assert renew.message.requested_address is None
    assert renew.message.server_identifier is None
    script.run_to(t2 - 1)
    assert script.client.state is S.RENEWING
    script.events()
    script.run_to(t2)
    (rebind,) = script.events()
    assert script.client.state is S.REBINDING
    assert (rebind.source, rebind.destination, rebind.message.ciaddr) == (ADDRESS, EVERYBODY, ADDRESS)
    script.run_to(end - 1)
    assert script.client.state is S.REBINDING
    script.events()
    script.run_to(end)
    lost, discover = script.events()
    assert lost == Lost(lease, "expired")
    assert discover.message.message_type is Kind.DISCOVER


def test_the_server_may_choose_t1_and_t2():
    script = at(S.REQUESTING)
    times = {DhcpOption.RENEWAL_TIME_VALUE: (100).to_bytes(4, "big"), DhcpOption.REBINDING_TIME_VALUE: (200).to_bytes(4, "big")}
    script.answer(Kind.ACK, options=times)
    script.client.claimed(script.now)
    assert script.client.deadline() == 100 * SECOND
    script.run_to(200 * SECOND)
    assert script.client.state is S.REBINDING


@pytest.mark.parametrize(("t1", "t2"), [(300, 200), (100, HOUR + 1), (HOUR + 2, HOUR + 3)])
def test_times_that_make_no_sense_are_replaced(t1, t2):
    script = at(S.REQUESTING)
    times = {DhcpOption.RENEWAL_TIME_VALUE: t1.to_bytes(4, "big"), DhcpOption.REBINDING_TIME_VALUE: t2.to_bytes(4, "big")}
    script.answer(Kind.ACK, options=times)
    script.client.claimed(script.now)
    assert script.client.deadline() == HOUR // 2 * SECOND


def test_an_infinite_lease_never_ends():
    script = at(S.REQUESTING)
    script.answer(Kind.ACK, lease_time=0xFFFFFFFF)
    script.client.claimed(script.now)
    assert script.client.state is S.BOUND
    assert script.client.deadline() is None


def test_renewal_extends_from_its_own_request():
    script = at(S.RENEWING)
    requested = script.now
    script.run_to(requested + SECOND)
    script.answer(Kind.ACK)
    (bound,) = script.events()
    assert bound == Bound(script.client.lease, renewed=True)
    assert script.client.state is S.BOUND
    assert script.client.deadline() == requested + HOUR // 2 * SECOND


def test_rebinding_takes_any_server():
    script = at(S.REBINDING)
    script.answer(Kind.ACK, server=OTHER_SERVER)
    assert script.client.state is S.BOUND
    assert script.client.lease.server == OTHER_SERVER


def test_renewing_asks_again_after_half_the_time_left_but_not_within_a_minute():
    script = at(S.RENEWING)
    t2 = HOUR * SECOND * 7 // 8
    moments = []
    while script.client.state is S.RENEWING:
        moments.append(script.now)
        script.run_to(script.client.deadline())
    gaps = [(later - earlier) // SECOND for earlier, later in itertools.pairwise(moments)]
    assert gaps == [675, 337, 168, 84, 60]
    assert script.now == t2


def test_a_late_answer_to_an_earlier_renewal_is_not_taken_for_the_new_one():
    numbers = iter(range(1, 1000))
    script = at(S.RENEWING, getrandbits=lambda bits: next(numbers))
    early = script.last.xid
    script.run_to(script.client.deadline())
    script.answer(Kind.ACK, xid=early)
    assert script.client.state is S.RENEWING
    assert script.client.counters == {"dhcp-not-ours": 1}
    script.answer(Kind.ACK)
    assert script.client.state is S.BOUND


def test_renew_now():
    script = at(S.BOUND)
    script.client.renew(script.now)
    assert script.sent() == [Kind.REQUEST]
    assert script.client.state is S.RENEWING
    at(S.SELECTING).client.renew(0)  # without a lease it is nothing


# Retransmission.


@pytest.mark.parametrize(("bits", "spread"), [(0, -1), (0xFFFFFFFF, 1), (0x80000000, 0)])
def test_discover_backs_off_for_ever(bits, spread):
    script = Script(getrandbits=lambda _: bits)
    script.start()
    moments = [0]
    for _ in range(7):
        moments.append(script.client.deadline())
        script.run_to(script.client.deadline())
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert gaps == [(wait + spread) * SECOND for wait in (4, 8, 16, 32, 64, 64, 64)]
    assert script.sent() == [Kind.DISCOVER] * 8


@pytest.mark.parametrize("state", [S.REQUESTING, S.REBOOTING])
def test_request_gives_up_after_sixty_seconds(state):
    script = at(state)
    begun = script.now
    script.run_to(begun + 60 * SECOND - 1)
    assert script.sent() == [Kind.REQUEST] * 3  # and the first one
    assert script.client.state is state
    script.run_to(begun + 60 * SECOND)
    assert script.sent() == [Kind.DISCOVER]


@pytest.mark.parametrize(("state", "seconds"), [(S.SELECTING, 4), (S.REBOOTING, 4), (S.RENEWING, 675)])
def test_secs_count_from_the_beginning(state, seconds):
    script = at(state)
    script.run_to(script.client.deadline())
    assert [event.message.secs for event in script.events()] == [seconds]


def test_secs_go_on_from_renewing_to_rebinding():
    script = at(S.RENEWING)
    script.run_to(HOUR * SECOND * 7 // 8)
    assert script.events()[-1].message.secs == HOUR * 3 // 8


def test_a_lost_ack_is_made_up_for_by_the_next_request():
    script = at(S.REQUESTING)
    requested = script.now
    script.run_to(script.client.deadline())
    (again,) = script.events()
    assert again.message.message_type is Kind.REQUEST
    script.answer(Kind.ACK)
    script.client.claimed(script.now)
    assert script.client.deadline() == requested + HOUR // 2 * SECOND  # the earliest moment that the ACK can mean


# What is not believed.


@pytest.mark.parametrize(
    ("state", "kind", "change", "reason"),
    [
        (S.SELECTING, Kind.OFFER, {"xid": 5}, "dhcp-not-ours"),
        (S.SELECTING, Kind.OFFER, {"chaddr": MacAddress("52:54:00:00:00:01")}, "dhcp-not-ours"),
        (S.SELECTING, Kind.OFFER, {"yiaddr": NOBODY}, "dhcp-unacceptable"),
        (S.SELECTING, Kind.OFFER, {"yiaddr": EVERYBODY}, "dhcp-unacceptable"),
        (S.SELECTING, Kind.OFFER, {"without": [DhcpOption.SERVER_IDENTIFIER]}, "dhcp-unacceptable"),
        (S.SELECTING, Kind.OFFER, {"without": [DhcpOption.DHCP_MESSAGE_TYPE]}, "dhcp-unexpected"),
        (S.SELECTING, Kind.ACK, {}, "dhcp-unexpected"),
        (S.SELECTING, Kind.NAK, {}, "dhcp-unexpected"),
        (S.REQUESTING, Kind.OFFER, {"server": OTHER_SERVER}, "dhcp-unexpected"),
        (S.REQUESTING, Kind.ACK, {"server": OTHER_SERVER}, "dhcp-other-server"),
        (S.REQUESTING, Kind.NAK, {"server": OTHER_SERVER}, "dhcp-other-server"),
        (S.REQUESTING, Kind.ACK, {"lease_time": 0}, "dhcp-unacceptable"),
        (S.REQUESTING, Kind.ACK, {"without": [DhcpOption.IP_ADDRESS_LEASE_TIME]}, "dhcp-unacceptable"),
        (S.CHECKING, Kind.ACK, {}, "dhcp-unexpected"),
        (S.BOUND, Kind.ACK, {}, "dhcp-unexpected"),
        (S.BOUND, Kind.NAK, {}, "dhcp-unexpected"),
        (S.RENEWING, Kind.ACK, {"server": OTHER_SERVER}, "dhcp-other-server"),
        (S.RENEWING, Kind.NAK, {"server": OTHER_SERVER}, "dhcp-other-server"),
        (S.RENEWING, Kind.ACK, {"yiaddr": IPv4Address("10.0.2.16")}, "dhcp-unacceptable"),
        (S.REBINDING, Kind.OFFER, {}, "dhcp-unexpected"),
    ],
)
def test_what_is_wrong_is_counted_and_changes_nothing(state, kind, change, reason):
    script = at(state)
    script.answer(kind, **change)
    assert script.client.state is state
    assert script.client.counters == {reason: 1}
    assert script.events() == []


def test_malformed_messages_are_counted():
    script = at(S.SELECTING)
    script.client.receive(b"\2\1\6" + bytes(50), 0)
    assert script.client.counters == {"dhcp-malformed": 1}


# Leaving.


@pytest.mark.parametrize("state", [S.BOUND, S.RENEWING, S.REBINDING])
def test_release_tells_the_server(state):
    script = at(state)
    lease = script.client.lease
    script.client.release()
    sent, lost = script.events()
    assert (sent.source, sent.destination) == (ADDRESS, SERVER)
    message = sent.message
    assert (message.message_type, message.ciaddr, message.server_identifier) == (Kind.RELEASE, ADDRESS, SERVER)
    assert message.requested_address is None
    assert lost == Lost(lease, "released")
    assert script.client.state is S.STOPPED
    assert script.client.deadline() is None


@pytest.mark.parametrize("state", [state for state in S if state not in (S.BOUND, S.RENEWING, S.REBINDING)])
def test_release_without_a_lease_is_silent(state):
    script = at(state)
    script.client.release()
    assert script.events() == []
    assert script.client.state is S.STOPPED


def test_start_again_forgets_the_old_lease():
    script = at(S.BOUND)
    lease = script.client.lease
    script.start()
    lost, discover = script.events()
    assert lost == Lost(lease, "stopped")
    assert discover.message.message_type is Kind.DISCOVER


@pytest.mark.parametrize(
    "wrong",
    [{"hostname": ""}, {"hostname": "gäst"}, {"parameters": (0,)}, {"parameters": (255,)}, {"options": ((52, b"\1"),)}],
)
def test_a_configuration_that_no_message_can_carry(wrong):
    with pytest.raises(LocalError, match="DhcpClientConfig"):
        DhcpClientConfig(**wrong)


def test_configured_options_are_sent():
    config = DhcpClientConfig(client_identifier=b"\1id", options=((60, b"vendor"),), broadcast=True)
    script = Script(config=config)
    script.start()
    script.answer(Kind.OFFER)
    script.events()
    assert script.last.message_type is Kind.REQUEST
    assert (script.last.options[60], script.last.options[61], script.last.broadcast) == (b"vendor", b"\1id", True)


# Leases.


@pytest.mark.parametrize(
    ("address", "mask", "prefix"),
    [
        ("10.0.2.15", "ffffff00", 24),
        ("10.0.2.15", "ff000000", 8),
        ("10.0.2.15", "ffffffff", 32),
        ("10.0.2.15", "00000000", 0),
        ("10.0.2.15", "ff00ff00", 8),
        ("10.0.2.15", None, 8),
        ("172.16.0.1", None, 16),
        ("192.168.0.1", None, 24),
    ],
)
def test_prefix_length(address, mask, prefix):
    options = {} if mask is None else {DhcpOption.SUBNET_MASK: bytes.fromhex(mask)}
    message = Dhcpv4(BOOTREPLY, 1, MAC, yiaddr=IPv4Address(address), options=options)
    assert lease_from(message).prefix_length == prefix


def test_everything_a_lease_tells():
    options = {
        DhcpOption.ROUTER: pack_addresses(SERVER, OTHER_SERVER),
        DhcpOption.DOMAIN_NAME_SERVER: OTHER_SERVER.packed,
        DhcpOption.HOST_NAME: b"vm",
        DhcpOption.INTERFACE_MTU: (1400).to_bytes(2, "big"),
        DhcpOption.RENEWAL_TIME_VALUE: (1).to_bytes(4, "big"),
        DhcpOption.REBINDING_TIME_VALUE: (2).to_bytes(4, "big"),
    }
    lease = lease_from(Dhcpv4(BOOTREPLY, 1, MAC, yiaddr=ADDRESS, options=options))
    assert lease.routers == (SERVER, OTHER_SERVER)
    assert lease.dns == (OTHER_SERVER,)
    assert (lease.hostname, lease.mtu, lease.renewal_time, lease.rebinding_time) == ("vm", 1400, 1, 2)
    assert (lease.server, lease.domain, lease.lease_time) == (None, None, None)
    assert lease.options == options
