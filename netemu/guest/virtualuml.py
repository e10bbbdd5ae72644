"""User-mode Linux in a virtual clock: a real kernel for which nothing takes longer than the network says.

The kernel is one that `netemu peers build uml` made, since Debian's cannot travel in time. It joins the network's virtual loop
(`netemu.guest.virtualkernel`), so a lease is held for days within a second, a link's delay is what a ping measures, and the frames
of a run are the same octets at the same nanoseconds in every other.

Its devices are virtio cards behind vhost-user: eth0 on `port`, and two consoles, for the shell and the agent.

Computing takes no time at all in the guest. A program that waits for the clock without ever sleeping does not get there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from netemu.errors import LocalError, PeerError
from netemu.guest import busybox, udhcpc
from netemu.guest.booted import BootedGuest
from netemu.guest.channel import Decoder, Message, Pipe, encode
from netemu.guest.initramfs import open_initramfs
from netemu.guest.shell import Shell
from netemu.guest.virtualkernel import VirtualKernel
from netemu.net.clock import SECOND, nanoseconds
from netemu.net.loop import Loop, VirtualLoop
from netemu.net.sockets import Address
from netemu.peers import uml
from netemu.virtio import console as virtio_console
from netemu.virtio import net as virtio_net
from netemu.virtio.console import VirtioConsole
from netemu.virtio.net import VirtioNet
from netemu.wire.address import MacAddress

__all__ = ["VirtualUmlGuest"]

_INTERFACE: Final = "eth0"
_CONSOLES: Final = ("shell=/dev/hvc0", "agent=/dev/hvc1")
_SEED_BITS: Final = 64
_MARK_BITS: Final = 48
_WINDOW: Final = 200  # octets: longer than what is looked for


class VirtualUmlGuest(BootedGuest):
    """A User-mode Linux guest of a virtual loop. `kernel` is the program, `memory` its RAM in MiB; `parameters` go to the kernel.

    `getrandbits` gives the seed of its random numbers. A missing program is a `LocalError`.
    """

    kind = "uml"

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        getrandbits: Callable[[int], int],
        kernel: Path | None = None,
        memory: int = 64,
        parameters: Sequence[str] = (),
    ) -> None:
        if not isinstance(loop, VirtualLoop):
            raise LocalError(f'guest {name}: this kernel lives in virtual time; make the network with clock="virtual"')
        reason = self.probe(kernel)
        if reason is not None:
            raise LocalError(f"guest {name}: {reason}")
        super().__init__(loop, name, mac, _INTERFACE)
        self._virtual_loop = loop
        console = _ShellConsole(loop)
        self._agent = _AgentConsole(loop)
        self._shell = Shell(console, name, f"{getrandbits(_MARK_BITS):012x}")
        with open_initramfs(busybox.find_busybox()) as initramfs:
            self.kernel = VirtualKernel(
                loop,
                name,
                kernel or uml.kernel(),
                devices={
                    "card": (virtio_net.DEVICE_ID, VirtioNet(self.port, mac)),
                    "shell": (virtio_console.DEVICE_ID, console.device),
                    "agent": (virtio_console.DEVICE_ID, self._agent.device),
                },
                initramfs=initramfs,
                memory=memory,
                seed=getrandbits(_SEED_BITS),
                parameters=[*_CONSOLES, *parameters],
                on_end=lambda: self._ended(console),
            )

    @classmethod
    def probe(cls, kernel: Path | None = None) -> str | None:
        """Why this guest cannot run here, in one sentence; None if it can."""
        return (uml.missing() if kernel is None else None) or busybox.probe(static=True)

    @classmethod
    def version(cls) -> str:
        """The kernel's release, such as 6.12.107; it does not boot to say it."""
        return uml.version()

    @property
    def capabilities(self) -> frozenset[str]:
        return super().capabilities | {"virtual-clock"}

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return self.kernel.pid

    @property
    def address(self) -> IPv4Address | None:
        """The address on its card now: a lease that ended took it away."""
        if self._address is not None and not (self._closed or self.kernel.ended):
            held = f"inet {self._address}/" in self.run(f"ip -4 addr show dev {self.interface}").output
            self._address = self._address if held else None
        return self._address

    def configure(self, address: Address, prefix_length: int, router: Address | None = None) -> None:
        self.run(udhcpc.dismiss())
        super().configure(address, prefix_length, router)

    def _lease_command(self, timeout: float) -> str:
        """The client stays: days pass here, and leases with them."""
        return udhcpc.resident_command(self.interface, self._udhcpc_script, timeout)

    def _open_channel(self, on_message: Callable[[Message], None], on_end: Callable[[str], None]) -> Pipe:
        self._agent.open(on_message, on_end)
        return self._agent

    def _power_off(self) -> None:
        self.kernel.close()
        self.port.disconnect()

    def _ended(self, console: _ShellConsole) -> None:
        console.end(self.kernel.last_words)
        self._agent.end("the kernel has ended")


class _ShellConsole:
    """The console of a shell (`netemu.guest.shell.Console`): a virtio console in virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.device = VirtioConsole(lambda octets: loop.call_soon(partial(self._arrived, octets)))
        self.unread = b""
        self._loop = loop
        self._buffer = bytearray()
        self._searched = 0
        self._ended = False

    def now(self) -> float:
        return self._loop.now() / SECOND

    def send(self, line: str) -> None:
        self.device.send(line.encode())

    def expect(self, pattern: str, timeout: float) -> re.Match[bytes] | None:
        expression = re.compile(pattern.encode())
        self._searched = 0
        match: re.Match[bytes] | None = None

        def settled() -> bool:
            nonlocal match
            if self._searched < len(self._buffer):
                start = max(0, self._searched - _WINDOW)
                match = expression.search(self._buffer[start:])
                self._searched = len(self._buffer)
                if match is not None:
                    self.unread = bytes(self._buffer[: start + match.start()])
                    del self._buffer[: start + match.end()]
                    return True
            return self._ended

        if not self._loop.run_until(settled, self._loop.now() + nanoseconds(timeout)):
            self.unread = bytes(self._buffer)
        elif match is None:
            self.unread = bytes(self._buffer)
            raise EOFError
        return match

    def end(self, last_words: str) -> None:
        """The guest is gone; `last_words` are what it said elsewhere."""
        self._buffer += last_words.encode()
        self._ended = True

    def _arrived(self, octets: bytes) -> None:
        self._buffer += octets


class _AgentConsole:
    """The channel to the agent (`netemu.guest.channel.Pipe`): a virtio console. What comes before it is opened is kept for it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.device = VirtioConsole(lambda octets: loop.call_soon(partial(self._arrived, octets)))
        self._decoder = Decoder()
        self._early = bytearray()
        self._on_message: Callable[[Message], None] | None = None
        self._on_end: Callable[[str], None] | None = None

    def open(self, on_message: Callable[[Message], None], on_end: Callable[[str], None]) -> None:
        """Whom to tell from now on."""
        self._on_message, self._on_end = on_message, on_end
        early, self._early = bytes(self._early), bytearray()
        self._arrived(early)

    def send(self, message: Message) -> None:
        if self._on_end is not None:
            self.device.send(encode(message))

    def allow(self, octets: int) -> None:
        """This console holds what it is given, so nothing is held back."""

    def close(self) -> None:
        self._on_message = self._on_end = None

    def end(self, reason: str) -> None:
        """Nothing comes any more."""
        on_end = self._on_end
        self.close()
        if on_end is not None:
            on_end(reason)

    def _arrived(self, octets: bytes) -> None:
        if self._on_message is None:
            self._early += octets
            return
        try:
            for message in self._decoder.feed(octets):
                self._on_message(message)
        except PeerError as error:
            self.end(str(error))
