"""The types of the factory fixtures, to annotate tests with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pytest_netemu.options import ClockKind

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.io.host import Host
    from netemu.net.hub import Hub
    from netemu.net.loop import Loop
    from netemu.net.port import Port
    from netemu.netdev.protocol import Backend, UserBackend
    from netemu.network import Network
    from netemu.wire.address import MacAddress

__all__ = ["BackendFactory", "GuestFactory", "HubFactory", "NetworkFactory"]


class NetworkFactory(Protocol):
    """`netemu_factory`."""

    def __call__(
        self, clock: ClockKind | None = None, *, seed: int | None = None, host: Callable[[Loop], Host] | None = None
    ) -> Network:
        """A fresh network; without `clock` and `seed` those of the test and the run. It is closed after the test at the latest."""
        ...


class GuestFactory(Protocol):
    """`netemu_guest_factory`, `netemu_inproc`, `netemu_netns`, `netemu_uml`, `netemu_qemu`."""

    def __call__(
        self,
        *,
        netdev: Backend | Hub | Port | None = None,
        nic: str | None = None,
        mac: MacAddress | str | None = None,
        name: str | None = None,
        **options: object,
    ) -> Guest:
        """A guest of one kind on the test's network, linked to `netdev` where one is given; `options` are those of the kind."""
        ...


class BackendFactory(Protocol):
    """`netemu_backend_factory`."""

    def __call__(self, **options: str | Sequence[str]) -> UserBackend:
        """A backend of the cell's kind; options are QEMU's, a list where one may be repeated (`hostfwd=["tcp::0-:80"]`)."""
        ...


class HubFactory(Protocol):
    """`netemu_hub`."""

    def __call__(self, hubid: int = 0) -> Hub:
        """The hub with QEMU's number `hubid` on the test's network; made when first asked for."""
        ...
