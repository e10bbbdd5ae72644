"""One device of a kernel that is served in its turns: a vhost-user back-end behind a socket that is read when the kernel speaks.

The kernel connects to `path` when it finds the device. Its requests are served one by one, and answered before it goes on. What the
device wants of the kernel waits until the kernel does (`interrupt`), for a kernel in the middle of a request does not listen.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from netemu.io.passing import PassingSocket, ReceivedFile
from netemu.vhost_user.backend import BackEnd, SharedFile
from netemu.vhost_user.messages import BACK_END, FRONT_END, Decoder, FrontEndRequest, Message, encode
from netemu.virtio.device import Device

__all__ = ["VhostCard"]


class VhostCard:
    """Serves `device` at `path`. `wants` is called when there is something to interrupt for, `kicked` before a kick is answered."""

    def __init__(self, path: Path, device: Device, *, wants: Callable[[], None], kicked: Callable[[], None]) -> None:
        self._wants = wants
        self._kicked = kicked
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._front_end: PassingSocket | None = None
        self._requests = Decoder(FRONT_END)
        self._files: list[ReceivedFile] = []
        self._channel: PassingSocket | None = None
        self._calls: list[Message] = []
        self._back_end = BackEnd(device, call=self._call, on_channel=self._set_channel)

    def fileno(self) -> int:
        """What to wait at: another one after the kernel has connected."""
        return self._listener.fileno() if self._front_end is None else self._front_end.fileno()

    def serve(self) -> bool:
        """Do what the kernel asks, a part of a message at a time; False once it has gone. What is no message is a `PeerError`."""
        if self._front_end is None:
            self._front_end = PassingSocket(self._listener.accept()[0])
            return True
        octets, files = self._front_end.receive(self._requests.wanted)
        self._files += files
        message = self._requests.feed(octets)
        if message is not None:
            self._answer(self._front_end, message)
        return bool(octets)

    def interrupt(self, pump: Callable[[PassingSocket], None]) -> None:
        """Tell the kernel, which waits, what the device wants. `pump` serves it until its reply can be read."""
        calls, self._calls = self._calls, []
        for call in calls:
            if self._channel is None:
                return
            self._channel.send(encode(call))
            replies, reply = Decoder(BACK_END), None
            while reply is None:
                pump(self._channel)
                octets, _ = self._channel.receive(replies.wanted)
                if not octets:
                    return
                reply = replies.feed(octets)

    def close(self) -> None:
        self._back_end.close()
        for end in (self._listener, self._front_end, self._channel):
            if end is not None:
                end.close()

    def _answer(self, front_end: PassingSocket, message: Message) -> None:
        reply = self._back_end.receive(message, self._files)
        for file in self._files:
            file.close()
        self._files.clear()
        if message.request == FrontEndRequest.VRING_KICK:
            self._kicked()
        if reply is not None:
            front_end.send(encode(reply))

    def _call(self, message: Message) -> None:
        if message not in self._calls:
            self._calls.append(message)
            self._wants()

    def _set_channel(self, file: SharedFile) -> None:
        assert isinstance(file, ReceivedFile)
        self._channel = PassingSocket(file.take_socket())
