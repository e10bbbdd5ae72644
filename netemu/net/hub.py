"""The hub: QEMU's repeater (net/hub.c). What comes in at one port goes out at every other, unread.

No addresses are learnt and no loop is detected, as in QEMU. A slow port never blocks the others: each port has a queue of its own
(`netemu.net.port`), and what a port that stays busy cannot hold is dropped there and counted.
"""

from __future__ import annotations

from collections.abc import Callable

from netemu.net.loop import Loop
from netemu.net.port import Frame, Port
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["Hub"]


class Hub:
    """A hub with as many ports as are asked for. `hubid` is QEMU's number of the hub."""

    def __init__(self, loop: Loop, hubid: int = 0) -> None:
        self.hubid = hubid
        self.ports: list[Port] = []
        self._loop = loop

    def port(self, name: str | None = None) -> Port:
        """A new port, to be connected to a NIC or a backend. The name is QEMU's `hub0port0` unless given."""
        port = Port(self._loop, name or f"hub{self.hubid}port{len(self.ports)}")
        port.attach(self._repeater(port))
        self.ports.append(port)
        return port

    def _repeater(self, source: Port) -> Callable[[Frame, VnetHeader | None], bool]:
        def repeat(frame: Frame, header: VnetHeader | None) -> bool:
            for port in self.ports:
                if port is not source:
                    port.send(frame, header)
            return True

        return repeat
