"""`-netdev hubport,hubid=N`: a port of an emulated hub, for a NIC to be plugged into (net/hub.c).

QEMU's second form, `netdev=`, which joins another netdev to the hub, is a link between the two here (`Network.link`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Self

from netemu.errors import LocalError
from netemu.net.hub import Hub
from netemu.netdev.options import reject_unknown

__all__ = ["HubportNetdev"]

_LARGEST_ID: Final = 0x7FFFFFFF  # QEMU's int32


class HubportNetdev:
    """A new port of `hub`; `close` takes it away again."""

    kind = "hubport"

    def __init__(self, id: str, hub: Hub) -> None:  # noqa: A002 - QEMU's name
        self.id = id
        self.hub = hub
        self.port = hub.port(id)

    @classmethod
    def from_pairs(cls, id: str, pairs: Iterable[tuple[str, str]], hub: Callable[[int], Hub] | None) -> Self:  # noqa: A002 - QEMU's name
        """From `hubid=N`; raises `LocalError`."""
        options = list(pairs)
        reject_unknown("hubport", options, {"hubid"})
        text = dict(options).get("hubid", "")
        if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID):
            raise LocalError(f"netdev hubport has hubid={text!r}: give the hub's number, as in hubport,hubid=0")
        if hub is None:
            raise LocalError("netdev hubport needs hubs to have ports of: make it through a Network")
        return cls(id, hub(int(text)))

    @property
    def capabilities(self) -> frozenset[str]:
        """A hub does nothing of its own."""
        return frozenset({"virtual-clock"})

    def close(self) -> None:
        self.port.disconnect()
        if self.port in self.hub.ports:
            self.hub.ports.remove(self.port)
