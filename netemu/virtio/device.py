"""What a virtio device is to its transport: feature bits, a configuration space, and queues that it is given (VIRTIO 1.2, 2).

A transport (vhost-user, PCI) gives a device its queues with `start`, takes them away with `stop`, and calls `kick` when the driver
says that it made buffers available. A device calls `interrupt` when it has used some, and
`config_changed` when its configuration space is another. The transport decides when the driver hears of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Final

from netemu.virtio.split import SplitQueue

__all__ = ["F_VERSION_1", "Device"]

F_VERSION_1: Final = 1 << 32  # 6: a device of VIRTIO 1.0 or later


class Device(ABC):
    """The base of devices. `queue_count` and `features` belong to the kind of device; counters are by reason."""

    queue_count: int
    features: int

    def __init__(self) -> None:
        self.queues: dict[int, SplitQueue] = {}
        self.counters: Counter[str] = Counter()
        self.interrupt: Callable[[int], None] = lambda _queue: None
        self.config_changed: Callable[[], None] = lambda: None

    def config(self) -> bytes:
        """The configuration space as it is now."""
        return b""

    def start(self, number: int, queue: SplitQueue) -> None:
        """Queue `number` is the driver's and the device's from now on."""
        self.queues[number] = queue

    def stop(self, number: int) -> SplitQueue | None:
        """Leave queue `number` alone; what there was."""
        queue = self.queues.pop(number, None)
        if queue is not None:
            self._account(queue)
        return queue

    @abstractmethod
    def kick(self, number: int) -> None:
        """The driver has put something into queue `number`; one that is not started is passed over."""

    def refusals(self) -> Counter[str]:
        """What was refused in the queues there are and were, by reason."""
        total = Counter(self.counters)
        for queue in self.queues.values():
            total.update(queue.refused)
        return total

    def _account(self, queue: SplitQueue) -> None:
        self.counters.update(queue.refused)

    def _used(self, number: int, queue: SplitQueue) -> None:
        """Buffers of queue `number` were given back: the driver hears of it if it wants to."""
        if queue.wants_interrupt:
            self.interrupt(number)
