"""The DHCPv6 client as a machine: every arrow of its table, in virtual time, against a server that is a function."""

from __future__ import annotations

import itertools
import random
from ipaddress import IPv6Address

import pytest

from netemu.net.clock import MILLISECOND, SECOND
from netemu.stack.dhcp6_client import Bound6, Dhcp6Client, Dhcp6State, Lost6, SendDhcp6
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import (
    Dhcpv6,
    Dhcpv6MessageType,
    Dhcpv6Option,
    Dhcpv6StatusCode,
    IaAddress,
    IaNa,
    Status,
    duid_ll,
    pack_addresses,
    pack_domain_list,
)

MAC = MacAddress("52:54:00:00:00:0a")
SERVER, OTHER = duid_ll(MacAddress("52:54:00:00:00:01")), duid_ll(MacAddress("52:54:00:00:00:02"))
ADDRESS = IPv6Address("2001:db8::15")
DNS = IPv6Address("2001:db8::53")
T = Dhcpv6MessageType


class Bench:
    """A client, its clock, and what it did."""

    def __init__(self, seed: int = 1) -> None:
        self.client = Dhcp6Client(MAC, random.Random(seed).getrandbits)
        self.now = 0
        self.done: list[object] = []

    def collect(self) -> list[Dhcpv6]:
        """Take the events; the messages among them."""
        events = self.client.events()
        self.done += [event for event in events if not isinstance(event, SendDhcp6)]
        return [event.message for event in events if isinstance(event, SendDhcp6)]

    def next(self) -> list[Dhcpv6]:
        """Go to the next deadline; the messages sent there."""
        deadline = self.client.deadline()
        assert deadline is not None
        self.now = deadline
        self.client.expire(self.now)
        return self.collect()

    def answer(
        self, query: Dhcpv6, kind: T, *, server=SERVER, client=None, transaction=None, identity=None, **options
    ) -> list[Dhcpv6]:
        identity = identity or IaNa(1, 100, 160, (IaAddress(ADDRESS, 200, 300),))
        given = {"CLIENTID": client or query.client_id, "SERVERID": server, "IA_NA": identity.pack(), **options}
        pairs = tuple((Dhcpv6Option[name], value) for name, value in given.items() if value)
        number = query.transaction_id if transaction is None else transaction
        self.client.receive(Dhcpv6(kind, number, pairs).pack(), self.now)
        return self.collect()

    def bind(self) -> None:
        self.client.start(self.now)
        (solicit,) = self.collect()
        (request,) = self.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff")
        assert self.answer(request, T.REPLY, DNS_SERVERS=pack_addresses(DNS), DOMAIN_LIST=pack_domain_list(("test",))) == []


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_four_messages(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    assert (solicit.message_type, solicit.client_id, solicit.server_id, solicit.elapsed_time) == (T.SOLICIT, duid_ll(MAC), None, 0)
    assert solicit.ia_nas == (IaNa(1),)
    assert set(solicit.requested_options) == {23, 24, 82}
    (request,) = bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff")  # 255 is not waited beyond
    assert (request.message_type, request.server_id) == (T.REQUEST, SERVER)
    assert request.ia_nas[0].addresses[0].address == ADDRESS
    assert request.transaction_id != solicit.transaction_id
    bench.answer(request, T.REPLY, DNS_SERVERS=pack_addresses(DNS), DOMAIN_LIST=pack_domain_list(("test",)))
    lease = bench.client.lease
    assert (lease.address, lease.server, lease.renewal_time, lease.rebinding_time) == (ADDRESS, SERVER, 100, 160)
    assert (lease.dns, lease.search) == ((DNS,), ("test",))
    assert bench.done == [Bound6(lease)]


def test_the_best_advertisement_of_the_first_second_wins(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    for server, preference in ((OTHER, b"\x05"), (SERVER, b"\x09"), (OTHER, b"\x01")):
        assert bench.answer(solicit, T.ADVERTISE, server=server, PREFERENCE=preference) == []
    (request,) = bench.next()
    assert request.server_id == SERVER
    assert SECOND < bench.now <= 1100 * MILLISECOND


def test_after_the_first_second_any_advertisement_will_do(bench):
    bench.client.start(0)
    bench.collect()
    (solicit,) = bench.next()
    (request,) = bench.answer(solicit, T.ADVERTISE)
    assert request.message_type == T.REQUEST


@pytest.mark.parametrize("seed", range(5))
def test_retransmissions_double_and_end_at_an_hour(seed):
    bench = Bench(seed)
    bench.client.start(0)
    (first,) = bench.collect()
    moments = [0]
    for _ in range(16):
        (again,) = bench.next()
        assert again.transaction_id == first.transaction_id
        assert again.elapsed_time == min(bench.now // (10 * MILLISECOND), 0xFFFF)
        moments.append(bench.now)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert 1.0 * SECOND < gaps[0] <= 1.1 * SECOND
    assert all(1.89 <= after / before <= 2.11 for before, after in itertools.pairwise(gaps[:11]))
    assert all(3240 * SECOND <= gap <= 3960 * SECOND for gap in gaps[13:])


def test_a_request_is_tried_ten_times(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    sent = bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff")
    while bench.client.state is Dhcp6State.REQUESTING:
        sent += bench.next()
    assert [message.message_type for message in sent] == [T.REQUEST] * 10 + [T.SOLICIT]


def test_the_life_of_a_lease(bench):
    bench.bind()
    (renew,) = bench.next()
    assert (bench.now, renew.message_type, renew.server_id) == (100 * SECOND, T.RENEW, SERVER)
    assert bench.client.state is Dhcp6State.RENEWING
    bench.answer(renew, T.REPLY)
    assert bench.client.state is Dhcp6State.BOUND
    assert len(bench.done) == 2
    (renew,) = bench.next()
    assert bench.now == 200 * SECOND
    sent = []
    while bench.client.state is not Dhcp6State.SOLICITING:
        sent += [(message.message_type, bench.now) for message in bench.next()]
    rebinds = [when for kind, when in sent if kind == T.REBIND]
    assert rebinds[0] == (100 + 160) * SECOND
    assert sent[-1] == (T.SOLICIT, (100 + 300) * SECOND)
    assert bench.done[-1].reason == "expired"


def test_a_rebind_is_for_any_server(bench):
    bench.bind()
    while bench.client.state is not Dhcp6State.REBINDING:
        sent = bench.next()
    assert sent[0].server_id is None
    bench.answer(sent[0], T.REPLY, server=OTHER)
    assert bench.client.lease.server == OTHER


def test_times_that_the_server_leaves_open(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    (request,) = bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff")
    bench.answer(request, T.REPLY, identity=IaNa(1, 0, 0, (IaAddress(ADDRESS, 1000, 2000),)))
    assert (bench.client.lease.renewal_time, bench.client.lease.rebinding_time) == (500, 800)


def test_a_lease_for_ever_is_not_renewed(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    (request,) = bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff")
    bench.answer(request, T.REPLY, identity=IaNa(1, 0, 0, (IaAddress(ADDRESS, 0xFFFFFFFF, 0xFFFFFFFF),)))
    assert bench.client.deadline() is None


NO_ADDRESS = IaNa(1, status=Status(Dhcpv6StatusCode.NO_ADDRS_AVAIL))


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"transaction": 1}, "dhcp6-not-ours"),
        ({"client": OTHER}, "dhcp6-not-ours"),
        ({"server": None}, "dhcp6-not-ours"),
        ({"identity": NO_ADDRESS}, "dhcp6-refused"),
        ({"identity": IaNa(2, 0, 0, (IaAddress(ADDRESS, 200, 300),))}, "dhcp6-refused"),
        ({"identity": IaNa(1, 170, 160, (IaAddress(ADDRESS, 200, 300),))}, "dhcp6-refused"),
        ({"identity": IaNa(1, 0, 0, (IaAddress(ADDRESS, 301, 300),))}, "dhcp6-refused"),
        ({"STATUS_CODE": Status(Dhcpv6StatusCode.UNSPEC_FAIL).pack()}, "dhcp6-refused"),
    ],
)
def test_an_advertisement_that_will_not_do(bench, changes, counted):
    bench.client.start(0)
    (solicit,) = bench.collect()
    assert bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff", **changes) == []
    assert bench.client.state is Dhcp6State.SOLICITING
    assert bench.client.counters == {counted: 1}


def test_a_reply_that_refuses_begins_anew(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    (request,) = bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff")
    (again,) = bench.answer(request, T.REPLY, identity=NO_ADDRESS)
    assert again.message_type == T.SOLICIT
    bench.answer(bench.answer(again, T.ADVERTISE, PREFERENCE=b"\xff")[0], T.REPLY)
    (renew,) = bench.next()
    bench.answer(renew, T.REPLY, identity=IaNa(1, status=Status(Dhcpv6StatusCode.NO_BINDING)))
    assert bench.done[-1].reason == "refused"


def test_release_and_decline(bench):
    bench.bind()
    lease = bench.client.lease
    bench.client.release(bench.now)
    (release,) = bench.collect()
    assert (release.message_type, release.server_id) == (T.RELEASE, SERVER)
    assert release.ia_nas[0].addresses[0].address == ADDRESS
    assert bench.done[-1] == Lost6(lease, "released")
    bench.answer(release, T.REPLY)
    assert (bench.client.state, bench.client.deadline()) == (Dhcp6State.STOPPED, None)
    bench.bind()
    bench.client.declined(bench.now)
    (decline,) = bench.collect()
    assert decline.message_type == T.DECLINE
    (solicit,) = bench.answer(decline, T.REPLY)
    assert solicit.message_type == T.SOLICIT


def test_a_release_that_nobody_answers_ends_after_four_tries(bench):
    bench.bind()
    bench.client.release(bench.now)
    sent = bench.collect()
    while bench.client.state is Dhcp6State.RELEASING:
        sent += bench.next()
    assert [message.message_type for message in sent] == [T.RELEASE] * 4


def test_two_messages_for_parameters(bench):
    bench.client.inform(0)
    (question,) = bench.collect()
    assert (question.message_type, question.ia_nas) == (T.INFORMATION_REQUEST, ())
    bench.answer(question, T.REPLY, IA_NA=None, DNS_SERVERS=pack_addresses(DNS), INFORMATION_REFRESH_TIME=(900).to_bytes(4, "big"))
    lease = bench.client.lease
    assert (lease.address, lease.dns, lease.refresh_time) == (None, (DNS,), 900)
    (again,) = bench.next()
    assert (bench.now, again.message_type) == (900 * SECOND, T.INFORMATION_REQUEST)


@pytest.mark.parametrize("payload", [b"", b"\x02\x00", b"\x02\x00\x00\x01\x00\x03\xff\xff"])
def test_malformed_messages_are_counted(bench, payload):
    bench.client.start(0)
    bench.client.receive(payload, 0)
    assert bench.client.counters == {"dhcp6-malformed": 1}


def test_a_lease_has_sixteen_addresses_at_most(bench):
    bench.client.start(0)
    (solicit,) = bench.collect()
    many = IaNa(1, 0, 0, tuple(IaAddress(ADDRESS + number, 200, 300) for number in range(40)))
    (request,) = bench.answer(solicit, T.ADVERTISE, PREFERENCE=b"\xff", identity=many)
    assert len(request.ia_nas[0].addresses) == 16
