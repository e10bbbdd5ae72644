"""What is understood of the programs in a guest: udhcpc's script and nslookup."""

import errno
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, NetemuTimeoutError, PeerError
from netemu.guest import nslookup, udhcpc
from netemu.guest.ping import refused
from netemu.guest.protocol import CommandResult, PingError

LEASE = """\
udhcpc: started, v1.35.0
udhcpc: broadcasting discover
udhcpc: lease of 10.0.2.15 obtained from 10.0.2.2, lease time 86400
ip=10.0.2.15
mask=24
router=10.0.2.2 10.0.2.9
dns=10.0.2.3
serverid=10.0.2.2
lease=86400
hostname=guest
domain=example.test
mtu=1400
opt58=0000a8c0
opt59=00012750
"""


def test_a_lease_is_read_whole():
    lease = udhcpc.parse_lease(LEASE)
    assert (str(lease.address), lease.prefix_length, str(lease.server)) == ("10.0.2.15", 24, "10.0.2.2")
    assert lease.routers == (IPv4Address("10.0.2.2"), IPv4Address("10.0.2.9"))
    assert lease.dns == (IPv4Address("10.0.2.3"),)
    assert (lease.lease_time, lease.renewal_time, lease.rebinding_time) == (86400, 43200, 75600)
    assert (lease.hostname, lease.domain, lease.mtu) == ("guest", "example.test", 1400)
    assert lease.options == {58: bytes.fromhex("0000a8c0"), 59: bytes.fromhex("00012750")}


def test_a_lease_of_an_address_alone():
    lease = udhcpc.parse_lease("ip=192.0.2.5\n")
    assert (lease.prefix_length, lease.router, lease.dns, lease.lease_time, lease.renewal_time) == (32, None, (), None, None)


@pytest.mark.parametrize(
    "output", ["", "udhcpc: no lease, failing\n", "ip=10.0.2.999\n", "ip=10.0.2.15\nmask=wide\n", "ip=1.2.3.4\nopt58=zz\n"]
)
def test_a_lease_that_is_none(output):
    with pytest.raises(PeerError):
        udhcpc.parse_lease(output)


def test_more_patience_is_more_requests():
    assert "-t 7 -T 1" in udhcpc.command("eth0", "/script", 7.2)
    assert "-t 1 -T 1" in udhcpc.command("eth0", "/script", 0.1)


def answer(text, status=0):
    return CommandResult(status, f"Server:\t\t10.0.2.3\nAddress:\t10.0.2.3:53\n\n{text}\n")


@pytest.mark.parametrize(
    ("result", "addresses"),
    [
        (answer("Name:\ta.test\nAddress: 192.0.2.7\n"), ["192.0.2.7"]),
        (answer("Name:\tb.test\nAddress: 192.0.2.8\nName:\tb.test\nAddress: 192.0.2.9\n"), ["192.0.2.8", "192.0.2.9"]),
        (answer(""), []),
        (answer("** server can't find nix.test: NXDOMAIN\n", status=1), []),
    ],
)
def test_answers_of_nslookup(result, addresses):
    assert nslookup.parse("a.test", result) == [IPv4Address(text) for text in addresses]


def test_a_refusal_is_no_empty_answer():
    with pytest.raises(HostError, match="the server answered SERVFAIL"):
        nslookup.parse("a.test", answer("** server can't find a.test: SERVFAIL\n", status=1))


def test_silence_is_a_timeout():
    with pytest.raises(NetemuTimeoutError, match="no answer"):
        nslookup.parse("a.test", CommandResult(143, "Terminated\n"))


def test_a_name_cannot_become_a_command():
    assert nslookup.command("a; reboot", IPv4Address("10.0.2.3"), 2.5) == "timeout 3 nslookup -type=a 'a; reboot' 10.0.2.3"


@pytest.mark.parametrize(
    ("error", "family", "kind", "code"),
    [
        (errno.ENETUNREACH, 4, 3, 0),
        (errno.EHOSTUNREACH, 4, 3, 1),
        (errno.EMSGSIZE, 4, 3, 4),
        (errno.EACCES, 4, 3, 0),
        (errno.ENETUNREACH, 6, 1, 0),
        (errno.EHOSTUNREACH, 6, 1, 3),
        (errno.EMSGSIZE, 6, 2, 0),
        (errno.EACCES, 6, 1, 0),
    ],
)
def test_a_refused_ping_is_told_as_the_icmp_error_of_its_family(error, family, kind, code):
    assert refused(HostError(error, "ping"), family) == PingError(kind, code, None)
