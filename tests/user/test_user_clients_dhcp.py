"""The DHCP clients of Debian as judges: BusyBox's udhcpc, ISC's dhclient and Roy Marples' dhcpcd, over both families.

Each leases an address, renews it and releases it. What it heard is what it tells its script; what was said is read from the frames.
"""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netemu.guest.netns import NetnsGuest
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.wire.dhcpv4 import SERVER_PORT, DhcpMessageType, Dhcpv4
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.udp import Udp

ANSWERED = 60.0  # seconds; a limit for a crowded machine, never waited for
SERVER6_PORT = 547

# Clients call it with what happened in $reason, or (udhcpc) as its argument.
SCRIPT = """#!/bin/sh
case ${reason:-$1} in
BOUND | RENEW) ip addr replace $new_ip_address/24 dev $interface ;;
BOUND6 | RENEW6) ip addr replace $new_ip6_address/64 dev $interface nodad ;;
bound | renew) ip addr replace $ip/24 dev $interface ;;
esac
echo ${reason:-$1} $new_ip_address$ip $new_routers$router $new_domain_name_servers$dns $new_domain_name$domain \\
    $new_ip6_address$new_dhcp6_ia_na1_ia_addr1 $new_dhcp6_name_servers $new_dhcp6_domain_search >FIFO
"""
DHCLIENT = "dhclient {family} -cf {dir}/none -sf {dir}/script -lf {dir}/leases -pf {dir}/pid eth0"
DHCPCD = "dhcpcd {family} -f {dir}/dhcpcd.conf -c {dir}/script"
DHCPCD_CONF = "noarp\noption dhcp6_name_servers\noption dhcp6_domain_search\n"


@dataclass(frozen=True)
class Client:
    """How a client is made to lease, renew (None: by itself) and release, and the words by which it tells its script so."""

    package: str
    start: str
    renew: str | None
    release: str
    words: tuple[str, str, str]


CLIENTS = {
    "busybox": Client(
        "busybox-static",
        "busybox udhcpc -f -R -T 1 -i eth0 -s {dir}/script -p {dir}/pid &",
        "kill -USR1 $(cat {dir}/pid)",
        "kill -USR2 $(cat {dir}/pid)",
        ("bound", "renew", "deconfig"),
    ),
    "dhclient": Client("isc-dhcp-client", DHCLIENT, None, DHCLIENT + " -r", ("BOUND", "RENEW", "RELEASE")),
    "dhcpcd": Client("dhcpcd-base", DHCPCD + " eth0", DHCPCD + " -N eth0", DHCPCD + " -k eth0", ("BOUND", "RENEW", "STOPPED")),
}


class Script:
    """The clients' script in `directory`, and what it was called with."""

    def __init__(self, directory: Path) -> None:
        fifo = directory / "told"
        os.mkfifo(fifo)
        (directory / "none").touch()
        (directory / "dhcpcd.conf").write_text(DHCPCD_CONF)
        (directory / "script").write_text(SCRIPT.replace("FIFO", str(fifo)))
        (directory / "script").chmod(0o755)
        self._read = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)  # with a writer of our own it never ends
        self._said = b""

    def close(self) -> None:
        os.close(self._read)

    def told(self, reason: str) -> list[str]:
        """The words after `reason`; calls for other reasons are passed over."""
        passed = []
        while True:
            line, end, rest = self._said.partition(b"\n")
            if not end:
                assert select.select([self._read], [], [], ANSWERED)[0], f"no {reason} came, but {passed}"
                self._said += os.read(self._read, 65_536)
                continue
            self._said = rest
            words = line.decode().split()
            if words[:1] == [reason]:
                return words[1:]
            passed.append(words)


def said(network: Network, read: Callable[[Ethernet], str | None]) -> list[str]:
    """What was said on the link."""
    words = (read(Ethernet.parse(bytes(record.frame))) for record in network.frames)
    return [word for word in words if word is not None]


def in_order(expected: list[str], words: list[str]) -> bool:
    """All of `expected` came, in this order; a client in a hurry may have said something twice."""
    rest = iter(words)
    return all(word in rest for word in expected)


def dhcp4(frame: Ethernet) -> str | None:
    if frame.ethertype != EtherType.IPV4:
        return None
    packet = IPv4.parse(frame.payload)
    if packet.protocol != Protocol.UDP:
        return None
    datagram = Udp.parse(packet.payload, packet.source, packet.destination)
    if SERVER_PORT not in (datagram.source_port, datagram.destination_port):
        return None
    message = Dhcpv4.parse(datagram.payload)
    assert message.message_type is not None
    extends = message.message_type == DhcpMessageType.REQUEST and int(message.ciaddr)
    return "RENEW" if extends else DhcpMessageType(message.message_type).name


def dhcp6(frame: Ethernet) -> str | None:
    if frame.ethertype != EtherType.IPV6:
        return None
    packet = IPv6.parse(frame.payload)
    if packet.next_header != Protocol.UDP:
        return None
    datagram = Udp.parse(packet.payload, packet.source, packet.destination)
    if SERVER6_PORT not in (datagram.source_port, datagram.destination_port):
        return None
    return Dhcpv6MessageType(Dhcpv6.parse(datagram.payload).message_type).name


@pytest.fixture
def network(netemu_platform) -> Iterator[Network]:
    netemu_platform.require_part("guest", "netns", NetnsGuest.probe)
    with Network(clock="real") as network:
        yield network


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path)
    yield script
    script.close()


@pytest.fixture
def need(netemu_platform) -> Callable[[str], None]:
    def need(name: str) -> None:
        words = f"it is not in PATH: install the Debian package {CLIENTS[name].package}"
        netemu_platform.require_part("program", name, lambda: None if shutil.which(name) else words)

    return need


def site(network: Network, lease_time: int) -> tuple[UserNetdev, NetnsGuest]:
    user = network.netdev(f"user,lease-time={lease_time},domainname=example.test,dnssearch=a.example")
    guest = network.guest("netns", netdev=user)
    assert isinstance(user, UserNetdev)
    assert isinstance(guest, NetnsGuest)
    for name in ("accept_dad", "accept_ra"):  # the link-local address is there at once, and no other
        guest.namespace.set_sysctl(f"net/ipv6/conf/eth0/{name}", "0")
    # dhcpcd has its own files, which are to be this guest's; the mounts are its namespace's
    guest.run("ip link set eth0 down; ip link set eth0 up; mkdir -p /var/lib/dhcpcd /run/dhcpcd", timeout=ANSWERED)
    guest.run("mount -t tmpfs none /var/lib/dhcpcd; mount -t tmpfs none /run/dhcpcd", timeout=ANSWERED)
    return user, guest


def run(guest: NetnsGuest, command: str, directory: Path, family: str) -> None:
    result = guest.run(command.format(dir=directory, family=family), timeout=ANSWERED)
    assert result.status == 0, f"{command}: status {result.status}\n{result.output}"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_leases_renews_and_releases(network: Network, script: Script, need, tmp_path: Path, name: str) -> None:
    need(name)
    client = CLIENTS[name]
    bound, renewed, released = client.words
    user, guest = site(network, 4 if client.renew is None else 3600)
    run(guest, client.start, tmp_path, "-4")
    assert script.told(bound) == ["10.0.2.15", "10.0.2.2", "10.0.2.3", "example.test"]
    (first,) = user.leases
    assert (str(first.address), first.mac, first.state) == ("10.0.2.15", guest.mac, "bound")
    if client.renew is not None:
        run(guest, client.renew, tmp_path, "-4")
    assert script.told(renewed)[0] == "10.0.2.15"
    assert user.leases[0].expires > first.expires
    run(guest, client.release, tmp_path, "-4")
    script.told(released)
    network.run_until(lambda: user.leases[0].state == "released", timeout=ANSWERED, what="the release")
    assert in_order(["DISCOVER", "OFFER", "REQUEST", "ACK", "RENEW", "ACK", "RELEASE"], said(network, dhcp4))


@pytest.mark.parametrize("name", ["dhclient", "dhcpcd"])
def test_a_client_leases_renews_and_releases_over_ipv6(network: Network, script: Script, need, tmp_path: Path, name: str) -> None:
    need(name)
    client = CLIENTS[name]
    bound, renewed = (f"{word}6" for word in client.words[:2])
    user, guest = site(network, 4)
    run(guest, client.start, tmp_path, "-6")
    assert [word.rstrip(".") for word in script.told(bound)] == ["fec0::15", "fec0::3", "a.example"]
    (first,) = user.leases6
    assert (str(first.address), first.state) == ("fec0::15", "bound")
    script.told(renewed)
    assert user.leases6[0].expires > first.expires
    run(guest, client.release, tmp_path, "-6")
    network.run_until(lambda: user.leases6[0].state == "released", timeout=ANSWERED, what="the release")
    assert in_order(["SOLICIT", "ADVERTISE", "REQUEST", "REPLY", "RENEW", "REPLY", "RELEASE"], said(network, dhcp6))
