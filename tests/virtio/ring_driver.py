"""The driver's side of a split queue, as simple as it can be: it lays the arrays out in a buffer and fills them by hand."""

import struct

from netemu.virtio.memory import GuestMemory, MemoryRegion
from netemu.virtio.split import SplitQueue

BASE = 0x10000
DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0x0, 0x1000, 0x2000, 0x4000  # in the region
NEXT, WRITE, INDIRECT = 1, 2, 4
LENGTH = 0x40000


class RingDriver:
    def __init__(self, size=8, length=LENGTH):
        self.size = size
        self.memory = bytearray(length)
        guest = GuestMemory([MemoryRegion(BASE, memoryview(self.memory))])
        self.queue = SplitQueue(guest, guest, size, descriptors=BASE + DESCRIPTORS, available=BASE + AVAILABLE, used=BASE + USED)
        self.available = 0
        self.free = BUFFERS

    def descriptor(self, number, address, length, flags=0, following=0):
        struct.pack_into("<QIHH", self.memory, DESCRIPTORS + 16 * number, address, length, flags, following)

    def buffer(self, octets=b"", room=0):
        """Memory for a buffer; its address."""
        start = self.free
        self.memory[start : start + len(octets)] = octets
        self.free += max(len(octets), room)
        return BASE + start

    def make_available(self, *heads):
        for head in heads:
            struct.pack_into("<H", self.memory, AVAILABLE + 4 + 2 * (self.available % self.size), head)
            self.available = self.available + 1 & 0xFFFF
        self.set_index(self.available)

    def set_index(self, index):
        struct.pack_into("<H", self.memory, AVAILABLE + 2, index)

    def no_interrupt(self):
        struct.pack_into("<H", self.memory, AVAILABLE, 1)

    def offer(self, octets, head=0):
        """A buffer for the device to read."""
        self.descriptor(head, self.buffer(octets), len(octets))
        self.make_available(head)

    def lend(self, room, head=0):
        """A buffer for the device to write; where it is in memory."""
        address = self.buffer(room=room)
        self.descriptor(head, address, room, WRITE)
        self.make_available(head)
        return slice(address - BASE, address - BASE + room)

    def used(self):
        """What was given back: (head, octets written)."""
        index = struct.unpack_from("<H", self.memory, USED + 2)[0]
        return [struct.unpack_from("<II", self.memory, USED + 4 + 8 * (number % self.size)) for number in range(index)]
