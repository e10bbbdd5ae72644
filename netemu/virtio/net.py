"""The virtio network device (VIRTIO 1.2, 5.1): one pair of queues between a driver and a port.

What the driver transmits is sent from `port`, and what `port` receives is put into the driver's buffers, each behind a header of
twelve octets (5.1.6). Flow control passes through: while the port's peer is busy, frames stay in the transmit queue; while the
driver has no buffer, they stay with the port.

Not done: offloads, several pairs of queues, the control queue, mergeable buffers. None of them is offered.
"""

from __future__ import annotations

import struct
from typing import Final

from netemu.net.port import Frame, Port
from netemu.virtio.device import F_VERSION_1, Device
from netemu.wire.address import MacAddress
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["DEVICE_ID", "F_MAC", "F_STATUS", "VirtioNet"]

DEVICE_ID: Final = 1  # 5.1.1
F_MAC: Final = 1 << 5  # 5.1.3: the device has an address
F_STATUS: Final = 1 << 16  # 5.1.3: the configuration space says whether the link is up

_RECEIVE: Final = 0  # 5.1.2
_TRANSMIT: Final = 1
_LINK_UP: Final = 1  # status (5.1.4): VIRTIO_NET_S_LINK_UP
_CONFIG: Final = struct.Struct("<6sH")  # mac, status (5.1.4)
_HEADER: Final = 12  # octets in front of a frame (5.1.6)
_RECEIVED: Final = VnetHeader(num_buffers=1).pack(_HEADER)


class VirtioNet(Device):
    """A card with the address `mac`. Counted: `short`, a buffer without a whole header and frame; `no-room`, a buffer too small."""

    queue_count = 2
    features = F_VERSION_1 | F_MAC | F_STATUS

    def __init__(self, port: Port, mac: MacAddress) -> None:
        super().__init__()
        self._port = port
        self._mac = mac
        port.attach(self._receive)
        port.on_writable = lambda: self.kick(_TRANSMIT)
        port.on_link = lambda _up: self.config_changed()

    def config(self) -> bytes:
        return _CONFIG.pack(bytes(self._mac), _LINK_UP if self._port.link_up else 0)

    def kick(self, number: int) -> None:
        if number == _TRANSMIT:
            self._transmit()
        elif number == _RECEIVE:
            self._port.flush()

    def _transmit(self) -> None:
        queue = self.queues.get(_TRANSMIT)
        if queue is None:
            return
        done = False
        for _ in range(queue.size):  # a driver that goes on filling it kicks again
            chain = None if self._port.busy else queue.pop()
            if chain is None:
                break
            octets = chain.read()
            queue.push(chain)
            done = True
            if len(octets) > _HEADER:
                self._port.send(octets[_HEADER:])
            else:
                self.counters["short"] += 1
        if done:
            self._used(_TRANSMIT, queue)

    def _receive(self, frame: Frame, _header: VnetHeader | None) -> bool:
        queue = self.queues.get(_RECEIVE)
        chain = None if queue is None else queue.pop()
        if queue is None or chain is None:
            return False
        if chain.room < _HEADER + len(frame):
            self.counters["no-room"] += 1
            queue.push(chain)
        else:
            queue.push(chain, chain.write(_RECEIVED + frame))
        self._used(_RECEIVE, queue)
        return True
