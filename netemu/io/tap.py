"""A TAP device inside a private namespace: the cable between a real Linux stack and a netemu network.

The kernel's side is an ordinary Ethernet interface in the namespace; ours is `port`. Frames carry a virtio-net header
(IFF_VNET_HDR, 12 octets, little-endian), so checksum and segmentation requests pass in both directions. Which of them the kernel
may make of us (TUNSETOFFLOAD) is what the port's peer takes. What we ask of it, it always does; only trains of datagrams (USO)
began with Linux 6.2.

Follows Documentation/networking/tuntap.rst and linux/if_tun.h. The device is gone when the port is closed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Self

from netemu.errors import HostError, LocalError
from netemu.io.framefd import FrameDescriptor
from netemu.io.namespace import Namespace
from netemu.io.watcher import FdWatcher
from netemu.net.loop import Loop
from netemu.net.offload import EVERYTHING, USO
from netemu.net.port import Port

__all__ = ["TapPort", "open_tap"]

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFREQ = struct.Struct("16sH22x")  # struct ifreq: name, flags
_INT = struct.Struct("i")
_NAME_LIMIT = 15  # IFNAMSIZ less its zero
_HEADER_LENGTH = 12


class TapPort:
    """Makes interface `interface` in `namespace`, sets it up, and drives `port` from its descriptor.

    Without /dev/net/tun or CAP_NET_ADMIN it is a `HostError`.
    """

    def __init__(self, loop: Loop, namespace: Namespace, interface: str = "tap0") -> None:
        self._begin(loop, namespace.open(open_tap, interface), interface)
        try:
            namespace.set_link_up(interface)
        except HostError:
            self.close()
            raise

    @classmethod
    def adopt(cls, loop: Loop, fd: int, interface: str = "tap0") -> Self:
        """The TAP that `open_tap` opened, perhaps in another process; its interface is up or will be."""
        tap = cls.__new__(cls)
        tap._begin(loop, fd, interface)
        return tap

    def _begin(self, loop: Loop, fd: int, interface: str) -> None:
        self.interface = interface
        self.error = 0  # the errno that ended it
        self._fd = fd
        self._loop = loop
        with loop:
            self.port = Port(loop, interface)
            self._watcher = FdWatcher(loop)
            offloads = EVERYTHING if self._accepts(EVERYTHING) else EVERYTHING & ~USO
            self._frames = FrameDescriptor(
                self._watcher, self._fd, self.port, self._ended, header_length=_HEADER_LENGTH, offloads=offloads
            )
            self.port.on_offloads = self._set_offloads
        self._closed = False

    def _set_offloads(self) -> None:
        offloads = self.port.peer_offloads & EVERYTHING
        self._accepts(offloads) or self._accepts(offloads & ~USO)

    def _accepts(self, offloads: int) -> bool:
        """May the kernel make these requests of us from now on? Not if it has never heard of one."""
        try:
            fcntl.ioctl(self._fd, _TUNSETOFFLOAD, offloads)
        except OSError:
            return False
        return True

    def _ended(self, error: int) -> None:
        self.error = error

    def close(self) -> None:
        """Remove the interface."""
        if self._closed:
            return
        self._closed = True
        with self._loop:
            self._frames.close()
            self._watcher.close()
            self.port.on_offloads = None
            os.close(self._fd)


def open_tap(interface: str) -> int:
    """Make a TAP in the network namespace of the calling thread; its descriptor. Raises `LocalError` and `HostError`."""
    if not 0 < len(interface.encode()) <= _NAME_LIMIT:
        raise LocalError(f"interface name {interface!r}: 1 to {_NAME_LIMIT} octets are allowed")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HostError(error.errno or errno.EIO, "open /dev/net/tun") from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(interface.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, _INT.pack(_HEADER_LENGTH))
        fcntl.ioctl(fd, _TUNSETVNETLE, _INT.pack(1))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, 0)
    except OSError as error:
        os.close(fd)
        raise HostError(error.errno or errno.EIO, f"make TAP interface {interface!r}") from None
    return fd
