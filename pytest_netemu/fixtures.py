"""The fixtures, by delegation: what they give is made in `netemu`, watched over by `pytest_netemu.evidence`.

All are function-scoped but `netemu_factory` and `netemu_platform`, which have the session's scope: the one so that hypothesis tests
may use it (what it makes belongs to the running test all the same), the other because probes run once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

import pytest

from netemu.errors import LocalError
from pytest_netemu.evidence import current
from pytest_netemu.matrix import BACKENDS, GUESTS, value_of
from pytest_netemu.platform import PLATFORM, Platform

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.io.host import Host
    from netemu.net.capture import FrameLog
    from netemu.net.clock import Clock
    from netemu.net.link import Link
    from netemu.net.loop import Loop
    from netemu.netdev.protocol import UserBackend
    from netemu.network import Network
    from pytest_netemu.asserts.ping import PingGroupRange
    from pytest_netemu.factories import BackendFactory, GuestFactory, HubFactory, NetworkFactory
    from pytest_netemu.options import ClockKind
    from pytest_netemu.tester import Tester
    from pytest_netemu.wire import Wire

__all__ = [
    "netemu",
    "netemu_backend",
    "netemu_backend_factory",
    "netemu_capture",
    "netemu_clock",
    "netemu_factory",
    "netemu_guest",
    "netemu_guest_factory",
    "netemu_host",
    "netemu_hub",
    "netemu_inproc",
    "netemu_link",
    "netemu_netns",
    "netemu_nic",
    "netemu_ping_group_range",
    "netemu_platform",
    "netemu_qemu",
    "netemu_slirp",
    "netemu_tester",
    "netemu_uml",
    "netemu_wire",
]

_USUAL_PARTS: Final = ("netemu.network", "netemu.netdev.user", "netemu.guest.inproc")


def _make_network(
    clock: ClockKind | None = None, *, seed: int | None = None, host: Callable[[Loop], Host] | None = None
) -> Network:
    from netemu.io.simhost import SimHost
    from netemu.network import Network

    evidence = current()
    if evidence is None:
        raise LocalError("netemu_factory was called outside of a test; make a netemu.Network and close it yourself")
    evidence.before_first_network()
    network = Network(clock or evidence.clock, seed=evidence.settings.seed if seed is None else seed, host=host or SimHost)
    evidence.adopt(network)
    return network


@pytest.fixture(scope="session")
def netemu_factory() -> NetworkFactory:
    """Make as many networks as a test (or hypothesis) asks for; each is closed after the test, or with `with`."""
    for module in _USUAL_PARTS:  # now, for hypothesis times each example, and the first one shall not pay for it
        import_module(module)
    return _make_network


@pytest.fixture
def netemu(netemu_factory: NetworkFactory) -> Iterator[Network]:
    """A fresh network with a virtual clock; a real one if the test is marked so, or if its guests cannot live in a virtual one.

    When the test is over everything in it is closed. What is left then (a descriptor, a child process, a thread, a network
    namespace) is an error that names it.
    """
    with netemu_factory() as network:
        yield network


@pytest.fixture
def netemu_backend_factory(request: pytest.FixtureRequest, netemu: Network) -> BackendFactory:
    """Make backends of this cell's kind with options of your own: `netemu_backend_factory(restrict="on")`."""
    name = value_of(request.node, "netemu_backend") or "netemu"
    return partial(request.config.stash[BACKENDS][name].factory, netemu)


@pytest.fixture
def netemu_backend(netemu_backend_factory: BackendFactory) -> UserBackend:
    """The user-mode network of this cell, with its defaults; `--netemu-backend` says which ones there are."""
    return netemu_backend_factory()


@pytest.fixture
def netemu_nic(request: pytest.FixtureRequest) -> str:
    """The NIC model of this cell; `direct` joins the guest's stack to the network without one."""
    return str(getattr(request, "param", "direct"))


@pytest.fixture
def netemu_guest_factory(request: pytest.FixtureRequest, netemu: Network) -> GuestFactory:
    """Make guests of this cell's kind: `netemu_guest_factory(netdev=...)`."""
    name = value_of(request.node, "netemu_guest") or "inproc"
    return _guest_factory(request, netemu, name)


@pytest.fixture
def netemu_guest(netemu_guest_factory: GuestFactory, netemu_backend: UserBackend, netemu_nic: str) -> Guest:
    """The guest of this cell, linked to `netemu_backend` through `netemu_nic`; `--netemu-guest` says which ones there are."""
    return netemu_guest_factory(netdev=netemu_backend, nic=netemu_nic)


@pytest.fixture
def netemu_tester(netemu: Network, netemu_backend: UserBackend) -> Tester:
    """A frame-level endpoint in a guest's place on `netemu_backend`'s cable: it sends any frame and says what it expects to see."""
    from pytest_netemu.tester import Tester

    return Tester(netemu, netemu_backend)


@pytest.fixture
def netemu_wire(netemu: Network, netemu_guest_factory: GuestFactory, netemu_nic: str) -> Wire:
    """A frame-level endpoint in the network's place, with the guest of this cell on its cable: its router, servers and attacker."""
    from pytest_netemu.wire import Wire

    return Wire(netemu, lambda wire: netemu_guest_factory(netdev=wire.port, nic=netemu_nic))


@pytest.fixture
def netemu_link(netemu: Network, netemu_guest: Guest) -> Link:
    """The link between `netemu_guest` and `netemu_backend`: cut it, slow it down, give it faults."""
    return next(link for link in netemu.links if link.a is netemu_guest.port)


@pytest.fixture
def netemu_slirp(netemu: Network) -> UserBackend:
    """QEMU's default user-mode network, netemu's own: 10.0.2.0/24, gateway 10.0.2.2, DNS 10.0.2.3."""
    return cast("UserBackend", netemu.netdev("user"))


@pytest.fixture
def netemu_hub(netemu: Network) -> HubFactory:
    """Hubs by QEMU's number: `netemu_hub(0)`."""
    return netemu.hub


@pytest.fixture
def netemu_inproc(request: pytest.FixtureRequest, netemu: Network) -> GuestFactory:
    """Make in-process guests: netemu's own stack, in virtual time."""
    return _guest_factory(request, netemu, "inproc")


@pytest.fixture
def netemu_netns(request: pytest.FixtureRequest, netemu: Network) -> GuestFactory:
    """Make guests that are this machine's kernel in a private network namespace; the clock is real."""
    return _guest_factory(request, netemu, "netns")


@pytest.fixture
def netemu_uml(request: pytest.FixtureRequest, netemu: Network) -> GuestFactory:
    """Make guests that are a User-mode Linux kernel of their own; the clock is real."""
    return _guest_factory(request, netemu, "uml")


@pytest.fixture
def netemu_qemu(request: pytest.FixtureRequest, netemu: Network) -> GuestFactory:
    """Make guests in QEMU, with any NIC model (`nic="e1000"`): each a fresh copy of a running machine; the clock is real."""
    return _guest_factory(request, netemu, "qemu")


@pytest.fixture
def netemu_ping_group_range(netemu: Network, netemu_host: Host) -> PingGroupRange:
    """Who may open ping sockets on the test's host: `grant()`, `deny()`, or `set(low, high)`; this machine's own setting stays."""
    from pytest_netemu.asserts.ping import PingGroupRange

    return PingGroupRange(netemu_host, partial(_recorded_refusals, netemu))


@pytest.fixture
def netemu_capture(netemu: Network) -> FrameLog:
    """Every frame that crossed a link of `netemu`, in order."""
    return netemu.frames


@pytest.fixture
def netemu_clock(netemu: Network) -> Clock:
    """The clock of `netemu`: `now()` in nanoseconds since the network began."""
    return netemu.loop


@pytest.fixture
def netemu_host(request: pytest.FixtureRequest, netemu: Network) -> Host:
    """The host side, of `netemu_backend` if the test uses it: serve and connect there as a program beside QEMU would."""
    if "netemu_backend" in request.fixturenames:
        backend: UserBackend = request.getfixturevalue("netemu_backend")
        return backend.host
    return netemu.host


@pytest.fixture(scope="session")
def netemu_platform(request: pytest.FixtureRequest) -> Platform:
    """What this machine was probed to do, by the probe's name; `require(*names)` ends a test that cannot run here."""
    return request.config.stash[PLATFORM]


def _recorded_refusals(network: Network) -> int | None:
    """The pings that backends noted as refused; None if none of them keeps a record."""
    recording = [backend for backend in network.backends if hasattr(backend, "refusals")]
    noted = [getattr(backend, "counters", {}).get("ping-forbidden", 0) for backend in recording]
    return sum(noted) if noted else None


def _guest_factory(request: pytest.FixtureRequest, network: Network, kind: str) -> GuestFactory:
    return partial(request.config.stash[GUESTS][kind].factory, network)
