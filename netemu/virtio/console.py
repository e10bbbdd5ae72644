"""The virtio console (VIRTIO 1.2, 5.3) with one port: octets both ways.

What the driver writes goes to `on_octets`. What is sent waits until the driver has buffers for it.

Not done: several ports with names (VIRTIO_CONSOLE_F_MULTIPORT), the window's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from netemu.virtio.device import F_VERSION_1, Device

__all__ = ["DEVICE_ID", "VirtioConsole"]

DEVICE_ID: Final = 3  # 5.3.1
_RECEIVE: Final = 0  # 5.3.2
_TRANSMIT: Final = 1


class VirtioConsole(Device):
    """A console whose user is given what comes (`on_octets`) and gives what goes (`send`)."""

    queue_count = 2
    features = F_VERSION_1

    def __init__(self, on_octets: Callable[[bytes], None]) -> None:
        super().__init__()
        self._on_octets = on_octets
        self._unsent = bytearray()

    def send(self, octets: bytes) -> None:
        """Give `octets` to the driver, now or when it has room."""
        self._unsent += octets
        self.kick(_RECEIVE)

    def kick(self, number: int) -> None:
        queue = self.queues.get(number)
        if queue is None:
            return
        done = False
        for _ in range(queue.size):  # a driver that goes on filling it kicks again
            chain = queue.pop() if number == _TRANSMIT or self._unsent else None
            if chain is None:
                break
            done = True
            if number == _TRANSMIT:
                self._on_octets(chain.read())
                queue.push(chain)
            else:
                count = chain.write(bytes(self._unsent[: chain.room]))
                del self._unsent[:count]
                queue.push(chain, count)
        if done:
            self._used(number, queue)
