"""A network: what a test asks for first, and what gives it everything else.

    with Network() as network:
        user = network.netdev("user,hostfwd=tcp:127.0.0.1:0-:80")
        guest = network.guest(netdev=user)
        lease = guest.dhcp4()

A network owns a loop (virtual time unless `clock="real"`), a host (what is behind its user-mode networks), the parts made here,
the links between them and a log of every frame that crossed one. `close` takes everything down: guests, backends, host, loop.

The default host is `SimHost`, whichever clock runs: nothing a guest sends leaves the process unless a test says so with
`host=OsHost` or a `NetnsHost`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Self, cast

from netemu.errors import LocalError, NetemuTimeoutError
from netemu.io.entropy import seeded_entropy
from netemu.io.simhost import SimHost
from netemu.net.capture import FrameLog
from netemu.net.clock import nanoseconds
from netemu.net.hub import Hub
from netemu.net.link import Link
from netemu.net.loop import Loop, VirtualLoop
from netemu.net.port import Port
from netemu.netdev import create
from netemu.wire.address import MacAddress

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.io.host import Host
    from netemu.netdev.protocol import Backend

__all__ = ["GUEST_KINDS", "Network"]

GUEST_KINDS = {
    "inproc": "netemu.guest.inproc:InprocGuest",
    "netns": "netemu.guest.netns:NetnsGuest",
    "uml": "netemu.guest.uml:uml_guest",
    "qemu": "netemu.guest.qemu:QemuGuest",
}

_WITH_NICS = {"qemu"}
_FIRST_MAC = MacAddress("52:54:00:12:34:56")  # QEMU's default; the last octet counts up from there (net/net.c)


class Network:
    """A fresh, empty network.

    `clock` is "virtual" (nothing waits, every run is the same) or "real" (a thread of its own over epoll). `seed` feeds every
    random number drawn inside. `host` makes the host from the loop: `SimHost`, `OsHost`, or a function.
    """

    def __init__(
        self, clock: Literal["virtual", "real"] = "virtual", *, seed: int = 0, host: Callable[[Loop], Host] = SimHost
    ) -> None:
        if clock not in ("virtual", "real"):
            raise LocalError(f'clock {clock!r}: "virtual" or "real" is needed')
        self.clock = clock
        self.seed = seed
        self.loop: Loop = VirtualLoop() if clock == "virtual" else _real_loop()
        self.host = host(self.loop)
        self.frames = FrameLog()
        self.links: list[Link] = []
        self.guests: list[Guest] = []
        self.backends: list[Backend] = []
        self._hubs: dict[int, Hub] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def entropy(self, name: str) -> Callable[[int], int]:
        """A generator of random bits for the part called `name`: it depends on the seed and the name alone."""
        return seeded_entropy(int.from_bytes(sha256(f"{self.seed}/{name}".encode()).digest()[:8]))

    def netdev(self, options: str = "user", *, id: str | None = None, host: Host | None = None) -> Backend:  # noqa: A002 - QEMU's name
        """A netdev from QEMU's `-netdev` text, such as `user,hostfwd=tcp:127.0.0.1:0-:80`; its host is the network's, or `host`."""
        name = id or f"netdev{len(self.backends)}"
        with self.loop:
            backend = create(self.loop, options, id=name, host=host or self.host, getrandbits=self.entropy(name), hub=self.hub)
        self.backends.append(backend)
        return backend

    def add_backend(self, backend: Backend) -> None:
        """Take over a backend made elsewhere: the network closes it."""
        self.backends.append(backend)

    def hub(self, hubid: int = 0) -> Hub:
        """The hub with QEMU's number `hubid`; made when first asked for."""
        if hubid not in self._hubs:
            self._hubs[hubid] = Hub(self.loop, hubid)
        return self._hubs[hubid]

    def guest(
        self,
        kind: str = "inproc",
        *,
        netdev: Backend | Hub | Port | None = None,
        nic: str | None = None,
        mac: MacAddress | str | None = None,
        name: str | None = None,
        **options: object,
    ) -> Guest:
        """A guest of `kind`, joined by a link to `netdev`: a backend, a hub (a new port of it) or any free port.

        `options` are those of the kind, such as `kernel="kernel@bookworm"` of a qemu guest.
        """
        if kind not in GUEST_KINDS:
            raise LocalError(f"guest kind {kind!r}: one of {', '.join(GUEST_KINDS)} is needed")
        if nic not in (None, "direct") and kind not in _WITH_NICS:
            raise LocalError(f'nic={nic!r}: {kind} guests have none; leave it out (or say "direct"), or take a qemu guest')
        module, _, factory = GUEST_KINDS[kind].partition(":")
        make = cast("Callable[..., Guest]", getattr(import_module(module), factory))
        return self.add_guest(make, netdev=netdev, nic=nic, mac=mac, name=name, **options)

    def add_guest(
        self,
        make: Callable[..., Guest],
        *,
        netdev: Backend | Hub | Port | None = None,
        nic: str | None = None,
        mac: MacAddress | str | None = None,
        name: str | None = None,
        **options: object,
    ) -> Guest:
        """A guest of your own, made by `make(loop, name, mac, getrandbits=..., **options)`; the network links and closes it.

        `make` is told `nic` only if it is a model, and not "direct", which is none.
        """
        if nic not in (None, "direct"):
            options["nic"] = nic
        name = name or f"guest{len(self.guests)}"
        address = self._next_mac() if mac is None else MacAddress(mac)
        with self.loop:
            guest = make(self.loop, name, address, getrandbits=self.entropy(name), **options)
        self.guests.append(guest)
        if netdev is not None:
            self.link(guest.port, _port_of(netdev))
        return guest

    def _next_mac(self) -> MacAddress:
        used = {guest.mac for guest in self.guests}
        for last in range(_FIRST_MAC[5], 0xFF):
            mac = MacAddress(_FIRST_MAC[:5] + bytes([last]))
            if mac not in used:
                return mac
        raise LocalError("QEMU's 169 default MAC addresses are used up: give mac= for further guests")

    def link(self, a: Port, b: Port, *, delay: float = 0, rate: int | None = None) -> Link:
        """Join two free ports; `delay` is seconds one way, `rate` bits a second. The frame log sees what crosses."""
        with self.loop:
            link = Link(self.loop, f"{a.name}-{b.name}", a, b, delay=nanoseconds(delay), rate=rate)
            link.taps.append(self.frames)
        self.links.append(link)
        return link

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until(lambda: False, self.loop.now() + nanoseconds(seconds))

    def run_until(self, condition: Callable[[], bool], *, timeout: float = 10.0, what: str = "the condition") -> None:
        """Let the network live until `condition` holds; `NetemuTimeoutError` after `timeout` seconds of its clock."""
        if not self.loop.run_until(condition, self.loop.now() + nanoseconds(timeout)):
            raise NetemuTimeoutError(f"{what} did not hold within {timeout:g} s of the network's clock")

    def close(self) -> None:
        """Take everything down: guests, backends, the host, the loop. What fails on the way is raised at the end, together."""
        parts: list[Guest | Backend | Host] = [*self.guests, *self.backends, self.host]
        self.guests, self.backends = [], []
        failures: list[Exception] = []
        with self.loop:
            for part in parts:
                try:
                    part.close()
                except Exception as failure:  # noqa: BLE001 - each part is closed, whatever the others do
                    failures.append(failure)
        self.loop.close()
        if failures:
            raise ExceptionGroup("closing the network", failures)


def _real_loop() -> Loop:
    from netemu.io.loop import RealLoop

    return RealLoop()


def _port_of(netdev: Backend | Hub | Port) -> Port:
    if isinstance(netdev, Hub):
        return netdev.port()
    return netdev if isinstance(netdev, Port) else netdev.port
