"""A vhost-user back-end: the session that gives a virtio device its driver (QEMU, docs/interop/vhost-user.rst).

Sans-IO: `receive` takes a message with the files that came beside it and gives the reply, if one is due. The front-end shares the
driver's memory (SET_MEM_TABLE), says where each queue lies in it (SET_VRING_*) and enables it; then the device has it. Kicks are
messages (VRING_KICK), and so are interrupts: they go out through `call`, on the channel of SET_BACKEND_REQ_FD ("In-band
notifications").

A request that cannot be done is counted in `refused` under its name, and answered with a status other than zero where the front-end
asked for one ("VHOST_USER_PROTOCOL_F_REPLY_ACK"). It changes nothing.

Not done: notification by eventfd, so a front-end without INBAND_NOTIFICATIONS has no kicks; dirty logging.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from netemu.errors import HostError, LocalError
from netemu.vhost_user.messages import (
    F_PROTOCOL_FEATURES,
    BackEndRequest,
    Config,
    Flag,
    FrontEndRequest,
    MemoryTable,
    Message,
    Payload,
    ProtocolFeature,
    VringAddress,
    VringState,
)
from netemu.virtio.device import Device
from netemu.virtio.memory import GuestMemory, MemoryRegion, OutsideMemoryError
from netemu.virtio.split import SplitQueue

__all__ = ["PROTOCOL_FEATURES", "BackEnd", "SharedFile"]

PROTOCOL_FEATURES: Final = (
    ProtocolFeature.REPLY_ACK | ProtocolFeature.BACKEND_REQ | ProtocolFeature.CONFIG | ProtocolFeature.INBAND_NOTIFICATIONS
)
_DONE: Final = 0
_FAILED: Final = 1
_MAX_CONFIG: Final = 256  # octets (VHOST_USER_MAX_CONFIG_SIZE)


class SharedFile(Protocol):
    """A descriptor that came with a message; who reads the socket closes it afterwards."""

    def map(self, length: int) -> memoryview:
        """The first `length` octets, shared and writable; `HostError` if it has not as many."""
        ...


class _RefusedError(Exception):
    """A request that cannot be done."""


@dataclass(slots=True)
class _Vring:
    """What has been said of a queue."""

    size: int = 0
    base: int = 0
    address: VringAddress | None = None


class BackEnd:
    """The session of `device` with one front-end.

    `call` sends a request of ours to the front-end; `on_channel` is given the file that such requests go to.
    """

    def __init__(self, device: Device, *, call: Callable[[Message], None], on_channel: Callable[[SharedFile], None]) -> None:
        self.device = device
        self.features = 0
        self.protocol_features = ProtocolFeature(0)
        self.refused: Counter[str] = Counter()
        self._on_channel = on_channel
        self._buffers = GuestMemory()
        self._rings = GuestMemory()
        self._vrings = [_Vring() for _ in range(device.queue_count)]
        device.interrupt = lambda queue: call(Message(BackEndRequest.VRING_CALL, VringState(queue, 0), Flag.NEED_REPLY))
        device.config_changed = lambda: call(Message(BackEndRequest.CONFIG_CHANGE_MSG, None, Flag.NEED_REPLY))

    def receive(self, message: Message, files: Sequence[SharedFile] = ()) -> Message | None:
        """Do what `message` asks; the reply, if it wants one."""
        try:
            answer = _HANDLERS[message.request](self, message.payload, files)
            status = _DONE
        except KeyError:
            answer, status = None, self._refuse(f"request {message.request}")
        except (_RefusedError, LocalError, HostError, OutsideMemoryError):
            answer, status = None, self._refuse(FrontEndRequest(message.request).name)
        if answer is None and message.flags & Flag.NEED_REPLY:
            answer = status
        return None if answer is None else Message(message.request, answer, Flag.REPLY)

    def close(self) -> None:
        """The front-end is gone: the device has no queues, and its memory is let go."""
        for number in range(len(self._vrings)):
            self.device.stop(number)
        self._buffers = self._rings = GuestMemory()

    def _refuse(self, reason: str) -> int:
        self.refused[reason] += 1
        return _FAILED

    def _get_features(self, _payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        return self.device.features | F_PROTOCOL_FEATURES

    def _set_features(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, int)
        if payload & ~(self.device.features | F_PROTOCOL_FEATURES):
            raise _RefusedError
        self.features = payload
        return None

    def _get_protocol_features(self, _payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        return int(PROTOCOL_FEATURES)

    def _set_protocol_features(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, int)
        if payload & ~PROTOCOL_FEATURES:
            raise _RefusedError
        self.protocol_features = ProtocolFeature(payload)
        return None

    def _own(self, _payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        return None

    def _queue_count(self, _payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        return self.device.queue_count

    def _set_channel(self, _payload: Payload, files: Sequence[SharedFile]) -> Payload:
        if len(files) != 1:
            raise _RefusedError
        self._on_channel(files[0])
        return None

    def _set_memory(self, payload: Payload, files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, MemoryTable)
        if len(files) != len(payload.regions) or self.device.queues:
            raise _RefusedError
        views = []
        for region, file in zip(payload.regions, files, strict=True):
            views.append((region, file.map(region.mmap_offset + region.size)[region.mmap_offset :]))
        self._buffers = GuestMemory(MemoryRegion(region.guest_address, view) for region, view in views)
        self._rings = GuestMemory(MemoryRegion(region.user_address, view) for region, view in views)
        return None

    def _vring(self, index: int) -> _Vring:
        if index >= len(self._vrings):
            raise _RefusedError
        return self._vrings[index]

    def _set_vring_num(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, VringState)
        self._vring(payload.index).size = payload.num
        return None

    def _set_vring_base(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, VringState)
        self._vring(payload.index).base = payload.num
        return None

    def _set_vring_address(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, VringAddress)
        self._vring(payload.index).address = payload
        return None

    def _get_vring_base(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        """The queue stops, and begins there again."""
        assert isinstance(payload, VringState)
        vring = self._vring(payload.index)
        queue = self.device.stop(payload.index)
        if queue is not None:
            vring.base = queue.index
        return VringState(payload.index, vring.base)

    def _enable(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, VringState)
        vring = self._vring(payload.index)
        queue = self.device.stop(payload.index)
        if queue is not None:
            vring.base = queue.index
        if payload.num:
            if vring.address is None:
                raise _RefusedError
            address = vring.address
            queue = SplitQueue(
                self._buffers,
                self._rings,
                vring.size,
                descriptors=address.descriptor,
                available=address.available,
                used=address.used,
                index=vring.base,
            )
            self.device.start(payload.index, queue)
        return None

    def _kick(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, VringState)
        self._vring(payload.index)
        self.device.kick(payload.index)
        return None

    def _get_config(self, payload: Payload, _files: Sequence[SharedFile]) -> Payload:
        assert isinstance(payload, Config)
        size = len(payload.payload)
        if payload.offset + size > _MAX_CONFIG:
            raise _RefusedError
        octets = self.device.config()[payload.offset : payload.offset + size]
        return Config(payload.offset, payload.flags, octets.ljust(size, b"\0"))


_HANDLERS: Final[dict[int, Callable[[BackEnd, Payload, Sequence[SharedFile]], Payload]]] = {
    FrontEndRequest.GET_FEATURES: BackEnd._get_features,
    FrontEndRequest.SET_FEATURES: BackEnd._set_features,
    FrontEndRequest.SET_OWNER: BackEnd._own,
    FrontEndRequest.SET_MEM_TABLE: BackEnd._set_memory,
    FrontEndRequest.SET_VRING_NUM: BackEnd._set_vring_num,
    FrontEndRequest.SET_VRING_ADDR: BackEnd._set_vring_address,
    FrontEndRequest.SET_VRING_BASE: BackEnd._set_vring_base,
    FrontEndRequest.GET_VRING_BASE: BackEnd._get_vring_base,
    FrontEndRequest.GET_PROTOCOL_FEATURES: BackEnd._get_protocol_features,
    FrontEndRequest.SET_PROTOCOL_FEATURES: BackEnd._set_protocol_features,
    FrontEndRequest.GET_QUEUE_NUM: BackEnd._queue_count,
    FrontEndRequest.SET_VRING_ENABLE: BackEnd._enable,
    FrontEndRequest.SET_BACKEND_REQ_FD: BackEnd._set_channel,
    FrontEndRequest.GET_CONFIG: BackEnd._get_config,
    FrontEndRequest.VRING_KICK: BackEnd._kick,
}
