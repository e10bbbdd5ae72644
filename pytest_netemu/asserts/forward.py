"""A forwarded port: the host connects, the guest serves, and octets go both ways."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, cast

from netemu.errors import HostError, LocalError, NetemuTimeoutError, PeerError
from netemu.guest.protocol import Guest
from netemu.io.host import Host
from netemu.net.sockets import DEFAULT_TIMEOUT
from netemu.netdev.protocol import Forward, UserBackend
from netemu.wire.address import Family, IPAddress
from pytest_netemu.asserts.failure import failure
from pytest_netemu.evidence import current

__all__ = ["assert_hostfwd"]

_LOOPBACK: Final[dict[Family, IPAddress]] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
_TO_GUEST: Final = bytes(range(256)) * 4  # 1,024 octets, more than any header and less than any MTU
_TO_HOST: Final = _TO_GUEST[::-1]


def assert_hostfwd(forward: Forward, guest: Guest, host: Host | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
    """Whoever connects to `forward` on the host reaches the server in `guest`, and they hear each other, octet for octet.

    The guest serves on the forward's guest port while this runs. `host` is where the forward listens; it is found by itself if the
    forward belongs to a network of the running test. `timeout` is for each step, in seconds of the network's clock.
    """
    __tracebackhide__ = True
    if guest.address != forward.guest.address:
        raise failure(
            f"hostfwd {forward}: {guest.name} has the address {guest.address or 'none'}, so the forward does not lead to it",
            ["let it lease (dhcp4) or configure the forward's address first"],
        )
    where = host or _host_of(forward)
    step = _tcp if forward.protocol == "tcp" else _udp
    problem = step(forward, guest, where, timeout)
    if problem:
        raise failure(f"hostfwd {forward}: {problem}")


def _tcp(forward: Forward, guest: Guest, host: Host, timeout: float) -> str:
    """The first thing that went wrong; empty if nothing did."""
    doing = "the guest could not serve"
    try:
        with guest.tcp_listen(forward.guest.port) as listener:
            doing = "the host could not connect"
            with host.tcp_connect(_reachable(forward), forward.host.port, timeout=timeout) as outside:
                doing = "the guest saw no connection"
                with listener.accept(timeout) as inside:
                    doing = "octets from host to guest failed"
                    outside.send(_TO_GUEST, timeout)
                    if (got := inside.recv_exactly(len(_TO_GUEST), timeout)) != _TO_GUEST:
                        return f"{doing}: {_first_difference(_TO_GUEST, got)}"
                    doing = "octets from guest to host failed"
                    inside.send(_TO_HOST, timeout)
                    if (got := outside.recv_exactly(len(_TO_HOST), timeout)) != _TO_HOST:
                        return f"{doing}: {_first_difference(_TO_HOST, got)}"
    except (HostError, NetemuTimeoutError, PeerError) as error:
        return f"{doing}: {error}"
    return ""


def _udp(forward: Forward, guest: Guest, host: Host, timeout: float) -> str:
    doing = "the guest could not serve"
    try:
        with guest.udp(forward.guest.port) as inside, host.udp(_reachable(forward)) as outside:
            doing = "the datagram from host to guest failed"
            outside.send_to(_TO_GUEST, _reachable(forward), forward.host.port)
            arrived = inside.recv(timeout)
            if arrived.data != _TO_GUEST:
                return f"{doing}: {_first_difference(_TO_GUEST, arrived.data)}"
            doing = "the datagram from guest to host failed"
            inside.send_to(_TO_HOST, arrived.source.address, arrived.source.port)
            answer = outside.recv(timeout)
            if answer.data != _TO_HOST:
                return f"{doing}: {_first_difference(_TO_HOST, answer.data)}"
            if (answer.source.address, answer.source.port) != (_reachable(forward), forward.host.port):
                return f"the answer came from {answer.source}, not from the forwarded port"
    except (HostError, NetemuTimeoutError, PeerError) as error:
        return f"{doing}: {error}"
    return ""


def _reachable(forward: Forward) -> IPAddress:
    """Where to connect: a forward on all of the host's addresses is reached on its loopback."""
    address = forward.host.address
    return _LOOPBACK[address.version] if address.is_unspecified else address


def _host_of(forward: Forward) -> Host:
    evidence = current()
    for network in evidence.networks if evidence else ():
        for backend in network.backends:
            if forward in getattr(backend, "forwards", ()):
                return cast("UserBackend", backend).host
    raise LocalError(f"{forward} belongs to no network of a running test; give host=, where the forward listens")


def _first_difference(expected: bytes, got: bytes) -> str:
    if len(expected) != len(got):
        return f"{len(expected)} octets were sent, {len(got)} arrived"
    at = next(place for place, (one, other) in enumerate(zip(expected, got, strict=True)) if one != other)
    return f"octet {at} of {len(expected)} was sent as {expected[at]:#04x} and arrived as {got[at]:#04x}"
