"""Forwarded ports of a user-mode network, with any guest that can serve (QEMU's `hostfwd=`)."""

from __future__ import annotations

import pytest

from netemu.errors import HostError, NetemuTimeoutError
from netemu.guest.protocol import Guest
from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire.udp import Udp
from pytest_netemu.asserts import assert_hostfwd
from pytest_netemu.factories import BackendFactory
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("hostfwd.runtime")


@judges("qemu/user-mode/07")
@pytest.mark.netemu_requires("dhcp4", "hostfwd.tcp", "tcp.listen")
def test_tcp_is_forwarded(netemu_backend: UserBackend, netemu_guest: Guest) -> None:
    forward = netemu_backend.add_hostfwd("tcp:127.0.0.1:0-:80")
    assert forward.guest.port == 80
    netemu_guest.dhcp4()
    assert_hostfwd(forward, netemu_guest, netemu_backend.host)


@judges("qemu/user-mode/07")
@pytest.mark.netemu_requires("dhcp4", "hostfwd.udp", "udp")
def test_udp_is_forwarded(netemu_backend: UserBackend, netemu_guest: Guest) -> None:
    forward = netemu_backend.add_hostfwd("udp:127.0.0.1:0-:69")
    assert forward.guest.port == 69
    netemu_guest.dhcp4()
    assert_hostfwd(forward, netemu_guest, netemu_backend.host)


@judges("qemu/hostfwd/01")
@pytest.mark.netemu_requires("dhcp4", "hostfwd.tcp", "tcp.listen")
def test_without_an_address_the_first_lease_is_meant(netemu_backend: UserBackend, netemu_guest: Guest) -> None:
    forward = netemu_backend.add_hostfwd("tcp:127.0.0.1:0-:80")
    assert forward.guest.address == netemu_backend.dhcpstart
    netemu_guest.dhcp4()
    assert_hostfwd(forward, netemu_guest, netemu_backend.host)


@judges("qemu/hostfwd/02")
@pytest.mark.netemu_requires("hostfwd.tcp")
def test_a_forward_listens_at_its_address_only(netemu_backend: UserBackend) -> None:
    forward = netemu_backend.add_hostfwd("tcp:127.0.0.1:0-:80")
    assert str(forward.host.address) == "127.0.0.1"
    with pytest.raises(HostError):
        netemu_backend.host.tcp_connect("127.0.0.2", forward.host.port)
    netemu_backend.host.tcp_connect("127.0.0.1", forward.host.port).abort()


@judges("qemu/hostfwd/03")
@pytest.mark.netemu_requires("dhcp4", "hostfwd.tcp", "tcp.listen")
@pytest.mark.parametrize("rule", ["::0-:80", ":127.0.0.1:0-:80"])
def test_tcp_is_what_is_meant_unless_said(netemu_backend: UserBackend, netemu_guest: Guest, rule: str) -> None:
    forward = netemu_backend.add_hostfwd(rule)
    assert forward.protocol == "tcp"
    netemu_guest.dhcp4()
    assert_hostfwd(forward, netemu_guest, netemu_backend.host)


@judges("qemu/hostfwd/04")
@pytest.mark.netemu_requires("hostfwd.tcp", "hostfwd.udp")
def test_there_may_be_many(netemu: Network, netemu_backend_factory: BackendFactory) -> None:
    backend = netemu_backend_factory(hostfwd=["tcp:127.0.0.1:0-:80", "tcp:127.0.0.1:0-:443", "udp:127.0.0.1:0-:53"])
    tester = Tester(netemu, backend)
    http, https, dns = backend.forwards
    for forward in (http, https):
        stream = backend.host.tcp_connect(forward.host.address, forward.host.port)
        TcpPeer.accept(tester, forward.guest.port).send(b"welcome")
        assert stream.recv(7) == b"welcome"
    with backend.host.udp("127.0.0.1") as socket:
        socket.send_to(b"question", dns.host.address, dns.host.port)
        tester.expect(Udp, destination_port=53, payload=b"question")


@judges("qemu/user-mode/02")
@pytest.mark.netemu_requires("dhcp4", "tcp.listen", "udp")
def test_nothing_comes_in_unasked(netemu_backend: UserBackend, netemu_guest: Guest) -> None:
    """The guest serves, and nobody outside has a way to it."""
    address = netemu_guest.dhcp4().address
    with netemu_guest.tcp_listen(80), netemu_guest.udp(53) as datagrams:
        with pytest.raises((HostError, NetemuTimeoutError)):
            netemu_backend.host.tcp_connect(address, 80, timeout=3)
        with netemu_backend.host.udp("127.0.0.1") as outside:
            for target in ("127.0.0.1", str(address)):
                try:
                    outside.send_to(b"knock", target, 53)
                except HostError:
                    continue
            with pytest.raises(NetemuTimeoutError):
                datagrams.recv(timeout=1)
