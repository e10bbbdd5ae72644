"""The assertions: silent when all is well, and saying what, where and how again when it is not."""

from __future__ import annotations

import hypothesis
import pytest

import netemu.guest.inproc
import netemu.network
from netemu.errors import LocalError
from netemu.net.capture import FrameLog
from netemu.net.link import FrameRecord
from netemu.netdev.protocol import Forward
from netemu.wire.address import Endpoint
from pytest_netemu.asserts import Match, assert_dhcp_lease, assert_hostfwd, assert_ping, expect
from pytest_netemu.outcomes import Inconclusive

LOADED = (hypothesis, netemu)  # here, so that not each of the inner runs, which forget what they import, loads them again


@pytest.fixture
def guest(netemu_guest):
    netemu_guest.dhcp4()
    return netemu_guest


def text_of(failure):
    return str(failure.value)


class TestLease:
    def test_holds(self, netemu_guest):
        lease = netemu_guest.dhcp4()
        assert_dhcp_lease(lease)
        assert_dhcp_lease(lease, address="10.0.2.15", prefix_length=24, server="10.0.2.2", router="10.0.2.2", dns="10.0.2.3")
        assert_dhcp_lease(lease, routers=["10.0.2.2"], dns=[lease.dns[0]], lease_time=86400, domain=None, mtu=lease.mtu)

    def test_each_difference_is_named(self, netemu_guest):
        lease = netemu_guest.dhcp4()
        with pytest.raises(AssertionError) as failure:
            assert_dhcp_lease(lease, address="10.0.2.16", router=None, dns=["10.0.2.3", "10.0.2.4"], prefix_length=24, domain="x")
        first, *rest = text_of(failure).splitlines()
        assert first == "4 fields are not as expected in the lease of 10.0.2.15"
        assert rest[:4] == [
            "  address: expected 10.0.2.16, got 10.0.2.15",
            "  router: expected none, got 10.0.2.2",
            "  dns: expected 10.0.2.3, 10.0.2.4, got 10.0.2.3",
            "  domain: expected x, got none",
        ]

    def test_the_acknowledgement_is_the_frame_in_question(self, netemu_guest):
        with pytest.raises(AssertionError) as failure:
            assert_dhcp_lease(netemu_guest.dhcp4(), mtu=1)
        (marked,) = [line for line in text_of(failure).splitlines() if line.startswith(">>")]
        assert "DHCP ACK" in marked

    def test_a_failure_can_be_replayed(self, netemu_guest, request):
        with pytest.raises(AssertionError) as failure:
            assert_dhcp_lease(netemu_guest.dhcp4(), mtu=1)
        last = text_of(failure).splitlines()[-1]
        assert last == f"replay: pytest '{request.node.nodeid}' --netemu-guest=inproc --netemu-backend=netemu"

    def test_two_leases_compared_with_assert(self, pytester):
        pytester.makepyfile(
            """
            from dataclasses import replace

            def test_it(netemu_guest):
                lease = netemu_guest.dhcp4()
                assert lease == replace(lease, mtu=9000, dns=())
            """
        )
        pytester.runpytest().stdout.fnmatch_lines(
            [
                "E*assert leases of 10.0.2.15 and 10.0.2.15 differ in 2 of 11 fields",
                "E*dns: 10.0.2.3 != none",
                "E*mtu: * != 9000",
            ]
        )


class TestPing:
    def test_holds(self, guest):
        assert assert_ping(guest, "10.0.2.2", count=3).received == 3
        assert_ping(guest, "10.0.2.99", outcome="error")

    def test_a_failure_says_how_it_ended(self, guest):
        with pytest.raises(
            AssertionError, match=r"guest0 pinged 203\.0\.113\.7: expected reply, got error\n  0 of 1 answered\n  ICMP type 3"
        ):
            assert_ping(guest, "203.0.113.7")

    def test_three_outcomes_beyond_the_gateway(self, guest, netemu_ping_group_range, netemu_host):
        netemu_host.add_address("198.51.100.7")
        netemu_host.blackhole("203.0.113.0/24")
        allowed = netemu_ping_group_range
        allowed.grant()
        assert allowed.ping(guest, "198.51.100.7").outcome == "works"
        assert allowed.ping(guest, "203.0.113.7").outcome == "wrongly silent"
        allowed.deny()
        assert allowed.assert_ping(guest, "198.51.100.7", "correctly refused").recorded == 1
        allowed.set(allowed.members[0], allowed.members[0])
        allowed.assert_ping(guest, "198.51.100.7", "works")
        netemu_host.unreachable("198.51.100.0/24")
        with pytest.raises(
            AssertionError, match="expected 'works', it was 'wrongly refused'\n  refusals: 0 recorded\n  ICMP type 3"
        ):
            allowed.assert_ping(guest, "198.51.100.9", "works")

    def test_a_refusal_that_is_not_recorded_is_wrong(self, guest, netemu, netemu_backend, netemu_host):
        from pytest_netemu.asserts import PingGroupRange

        unrecorded = PingGroupRange(netemu_host, lambda: 0)
        unrecorded.deny()
        assert unrecorded.ping(guest, "198.51.100.7").outcome == "wrongly refused"
        assert PingGroupRange(netemu_host).ping(guest, "198.51.100.7").outcome == "correctly refused"  # nobody keeps a record

    def test_this_machines_own_setting_is_not_a_tests(self):
        from pytest_netemu.asserts import PingGroupRange

        with pytest.raises(LocalError, match="is this machine itself"):
            PingGroupRange(object())


class TestForward:
    @pytest.mark.parametrize("rule", ["tcp:127.0.0.1:0-:80", "udp:127.0.0.1:0-:53", "tcp:0.0.0.0:0-:80"])
    def test_holds(self, guest, netemu_backend, rule):
        assert_hostfwd(netemu_backend.add_hostfwd(rule), guest)

    def test_holds_for_every_host(self, guest, netemu_backend, netemu_host):
        forward = netemu_backend.add_hostfwd("tcp:127.0.0.1:0-:80")
        assert_hostfwd(forward, guest, netemu_host)

    def test_a_forward_that_is_gone(self, guest, netemu_backend, netemu_host):
        forward = netemu_backend.add_hostfwd("tcp:127.0.0.1:0-:80")
        netemu_backend.remove_hostfwd(forward)
        with pytest.raises(
            AssertionError, match=r"hostfwd tcp:127\.0\.0\.1:\d+-10\.0\.2\.15:80: the host could not connect: .*ECONNREFUSED"
        ):
            assert_hostfwd(forward, guest, netemu_host)

    def test_a_forward_to_somebody_else(self, guest, netemu_backend):
        with pytest.raises(AssertionError, match=r"guest0 has the address 10\.0\.2\.15, so the forward does not lead to it"):
            assert_hostfwd(netemu_backend.add_hostfwd("tcp::0-10.0.2.77:80"), guest)

    def test_a_cut_cable(self, guest, netemu_backend, netemu_link):
        forward = netemu_backend.add_hostfwd("udp:127.0.0.1:0-:53")
        netemu_link.set_link(up=False)
        with pytest.raises(AssertionError, match=r"the datagram from host to guest failed: .*nothing within 10 s"):
            assert_hostfwd(forward, guest)

    def test_changed_octets(self, guest, netemu_backend, netemu_host, monkeypatch):
        from netemu.net.sockets import Stream

        honest = Stream.recv_exactly
        monkeypatch.setattr(Stream, "recv_exactly", lambda self, *given: honest(self, *given).replace(b"\7", b"\1"))
        with pytest.raises(
            AssertionError, match="octets from host to guest failed: octet 7 of 1024 was sent as 0x07 and arrived as 0x01"
        ):
            assert_hostfwd(netemu_backend.add_hostfwd("tcp:127.0.0.1:0-:80"), guest)

    def test_a_host_that_cannot_be_found(self, guest):
        forward = Forward("tcp", Endpoint(guest.address, 1), Endpoint(guest.address, 2))
        with pytest.raises(LocalError, match="belongs to no network of a running test; give host="):
            assert_hostfwd(forward, guest)


class TestFrames:
    def test_in_order(self, guest, netemu_capture):
        found = expect(netemu_capture).in_order(
            Match("dhcpv4", sender="guest0", dhcpv4_yiaddr="0.0.0.0"),
            Match("dhcpv4", receiver="guest0", dhcpv4_yiaddr="10.0.2.15"),
            Match("dhcpv4", where={"dhcpv4.options.requested_ip_address": ..., "udp.destination_port": 67}),
            Match("arp", arp_operation={1, 2}, arp_target_ip=lambda address: address.endswith(".15")),
        )
        assert [record.number for record in found if record.source == "guest0"] == [0, 1, 2]

    def test_contains_in_any_order(self, guest, netemu_capture):
        expect(netemu_capture).contains(Match("arp"), Match("dhcpv4", udp_destination_port=range(67, 68)), Match(tcp_flags=None))

    def test_values_are_compared_as_people_write_them(self):
        record = FrameRecord(
            0,
            0,
            "cable",
            "a",
            "b",
            bytes.fromhex("ffffffffffff5254001234560806000108000604000152540012345600000000") + bytes(6) + bytes([10, 0, 2, 15]),
            "drop",
        )
        for match in (
            Match("ethernet", "arp", ethernet_source="52:54:00:12:34:56", arp_operation=1, arp_target_ip="10.0.2.15"),
            Match(sender="a", receiver="b", link="cable", fate="drop"),
            Match(arp_operation=(1, 2)),
            Match(ipv4_source=None),
        ):
            assert match(record), match.differences(record)
        for match in (
            Match("ipv4"),
            Match(arp_operation=2),
            Match(arp_operation={2}),
            Match(arp_operation=None),
            Match(ipv4_source=...),
            Match(fate="delivered"),
        ):
            assert len(match.differences(record)) == 1

    def test_order_matters(self, guest, netemu_capture):
        offer, discover = (
            Match("dhcpv4", sender="netdev0"),
            Match("dhcpv4", sender="guest0", dhcpv4_options__requested_ip_address=None),
        )
        expect(netemu_capture).in_order(discover, offer)
        with pytest.raises(AssertionError, match="no frame after frame 2 is Match"):
            expect(netemu_capture).in_order(offer, discover)

    def test_one_frame_is_not_two(self, guest, netemu_capture):
        reply = Match("dhcpv4", sender="netdev0")
        expect(netemu_capture).in_order(reply, reply)
        with pytest.raises(AssertionError):
            expect(netemu_capture).in_order(reply, reply, reply)

    def test_the_nearest_frame_is_shown_field_by_field(self, guest, netemu_capture):
        with pytest.raises(AssertionError) as failure:
            expect(netemu_capture).contains(Match("dhcpv4", dhcpv4_yiaddr="10.0.2.16", receiver="guest0", udp_source_port=67))
        lines = text_of(failure).splitlines()
        assert lines[0].startswith(
            "no frame is Match(dhcpv4, dhcpv4.yiaddr='10.0.2.16', receiver='guest0', udp.source_port=67); of "
        )
        assert lines[0].endswith("frame 2 is nearest")
        assert lines[1] == "  dhcpv4.yiaddr: expected '10.0.2.16', got '10.0.2.15'"
        (marked,) = [line for line in lines if line.startswith(">>")]
        assert "DHCP OFFER" in marked
        assert lines[-1].startswith("replay: pytest ")

    def test_never(self, guest, netemu_capture):
        expect(netemu_capture).never(Match("tcp"), Match("malformed"))
        with pytest.raises(AssertionError, match=r"a frame is Match\(arp\), and none may be\n\n"):
            expect(netemu_capture).never(Match("tcp"), Match("arp"))

    def test_nothing_at_all(self):
        with pytest.raises(AssertionError, match="there are no more frames"):
            expect([]).contains(Match("arp"))

    def test_a_lost_observation_proves_nothing(self):
        log = FrameLog(capacity=300)
        for number in range(3):
            log(FrameRecord(number, 0, "cable", "a", "b", bytes(60), "delivered"))
        expect(log).contains(Match(sender="a"))
        for judge in (expect(log).never, expect(log).contains, expect(log).in_order):
            with pytest.raises(Inconclusive, match="2 frames are no longer in the log"):
                judge(Match("tcp"))


def test_the_traceback_ends_in_the_test(pytester):
    pytester.makepyfile(
        """
        from pytest_netemu.asserts import Match, assert_ping, expect

        def test_ping(netemu_guest):
            netemu_guest.configure("10.0.2.15", 24)
            assert_ping(netemu_guest, "10.0.2.77")

        def test_expect(netemu_capture):
            expect(netemu_capture).in_order(Match("arp"))
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    files = {line.partition(":")[0] for line in result.outlines if line.endswith(": AssertionError")}
    assert files == {"test_the_traceback_ends_in_the_test.py"}
