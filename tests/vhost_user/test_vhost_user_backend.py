"""The back-end's session: the conversation of a real front-end, and front-ends that ask for what cannot be."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import HostError
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect
from netemu.vhost_user.backend import PROTOCOL_FEATURES, BackEnd
from netemu.vhost_user.messages import (
    F_PROTOCOL_FEATURES,
    BackEndRequest,
    Config,
    Flag,
    FrontEndRequest,
    MemoryTable,
    Message,
    Region,
    VringAddress,
    VringState,
)
from netemu.virtio.net import VirtioNet
from netemu.wire.address import MacAddress

R = FrontEndRequest
MAC = MacAddress("52:54:00:12:34:56")
GUEST, USER, OFFSET = 0x100000, 0x7F0000000000, 0x1000  # where the region lies for the driver, the front-end, in the file
SIZE = 0x8000
DESCRIPTORS, AVAILABLE, USED, BUFFER = 0, 0x1000, 0x2000, 0x4000


class File:
    """A file that is shared."""

    def __init__(self, length=OFFSET + SIZE):
        self.octets = bytearray(length)

    def map(self, length):
        if length > len(self.octets):
            raise HostError(22, "map")
        return memoryview(self.octets)[:length]


class FrontEnd:
    def __init__(self):
        self.loop = VirtualLoop()
        port, far = Port(self.loop, "card"), Port(self.loop, "far")
        connect(port, far)
        self.frames, self.calls, self.channels = [], [], []
        far.attach(lambda frame, _header: self.frames.append(frame) or True)
        self.port, self.far = port, far
        self.file = File()
        self.back_end = BackEnd(VirtioNet(port, MAC), call=self.calls.append, on_channel=self.channels.append)

    def ask(self, request, payload=None, files=(), flags=Flag.NEED_REPLY):
        reply = self.back_end.receive(Message(request, payload, flags), files)
        assert reply is None or (reply.request, reply.flags) == (request, Flag.REPLY)
        return None if reply is None else reply.payload

    def set_up(self):
        assert self.ask(R.SET_OWNER, flags=Flag(0)) is None
        assert self.ask(R.GET_FEATURES) == 1 << 32 | 1 << 16 | 1 << 5 | F_PROTOCOL_FEATURES
        assert self.ask(R.GET_PROTOCOL_FEATURES) == PROTOCOL_FEATURES == 0x4228
        assert self.ask(R.SET_PROTOCOL_FEATURES, 0x4228) == 0
        assert self.ask(R.SET_BACKEND_REQ_FD, files=[self.file]) == 0
        assert self.ask(R.SET_FEATURES, 1 << 32 | F_PROTOCOL_FEATURES) == 0
        assert self.ask(R.GET_CONFIG, Config(0, 0, bytes(6))) == Config(0, 0, bytes(MAC))
        assert self.ask(R.SET_MEM_TABLE, MemoryTable((Region(GUEST, SIZE, USER, OFFSET),)), [self.file]) == 0
        for queue in (0, 1):
            at = USER + 0x100 * queue
            assert self.ask(R.SET_VRING_NUM, VringState(queue, 4)) == 0
            assert self.ask(R.SET_VRING_BASE, VringState(queue, 0)) == 0
            address = VringAddress(queue, 0, at + DESCRIPTORS, at + USED, at + AVAILABLE, 0)
            assert self.ask(R.SET_VRING_ADDR, address) == 0
        for queue in (0, 1):
            assert self.ask(R.SET_VRING_ENABLE, VringState(queue, 1)) == 0

    def transmit(self, frame):
        octets = bytes(12) + frame
        self.put(BUFFER, octets)
        self.put(0x100 + DESCRIPTORS, struct.pack("<QIHH", GUEST + BUFFER, len(octets), 0, 0))
        self.put(0x100 + AVAILABLE, struct.pack("<HHH", 0, 1, 0))
        assert self.ask(FrontEndRequest.VRING_KICK, VringState(1, 0)) == 0

    def put(self, place, octets):
        self.file.octets[OFFSET + place : OFFSET + place + len(octets)] = octets


@pytest.fixture
def front_end():
    return FrontEnd()


def test_the_conversation_of_user_mode_linux(front_end):
    front_end.set_up()
    front_end.transmit(b"frame of a guest")
    front_end.loop.run_for(1)
    assert front_end.frames == [b"frame of a guest"]
    assert front_end.calls == [Message(BackEndRequest.VRING_CALL, VringState(1, 0), Flag.NEED_REPLY)]
    assert front_end.channels == [front_end.file]
    assert not front_end.back_end.refused


def test_a_queue_that_was_stopped_goes_on_where_it_was(front_end):
    front_end.set_up()
    front_end.transmit(b"one")
    assert front_end.ask(FrontEndRequest.GET_VRING_BASE, VringState(1, 0)) == VringState(1, 1)
    assert 1 not in front_end.back_end.device.queues
    assert front_end.ask(FrontEndRequest.SET_VRING_ENABLE, VringState(1, 1)) == 0
    assert front_end.back_end.device.queues[1].index == 1


def test_a_change_of_the_link_is_told(front_end):
    front_end.set_up()
    front_end.port.set_link(False)
    assert front_end.calls == [Message(BackEndRequest.CONFIG_CHANGE_MSG, None, Flag.NEED_REPLY)]
    assert front_end.ask(FrontEndRequest.GET_CONFIG, Config(6, 0, bytes(2))) == Config(6, 0, bytes(2))


REFUSED = {
    "features that were not offered": (R.SET_FEATURES, 1 << 3, []),
    "protocol features that were not offered": (R.SET_PROTOCOL_FEATURES, 1 << 13, []),
    "no channel": (R.SET_BACKEND_REQ_FD, None, []),
    "memory without a file": (R.SET_MEM_TABLE, MemoryTable((Region(GUEST, SIZE, USER, OFFSET),)), []),
    "a file that is too short": (R.SET_MEM_TABLE, MemoryTable((Region(GUEST, SIZE, USER, OFFSET + 1),)), [File()]),
    "a queue that is not there": (R.SET_VRING_NUM, VringState(2, 4), []),
    "a kick of none": (R.VRING_KICK, VringState(7, 0), []),
    "a queue without a place": (R.SET_VRING_ENABLE, VringState(0, 1), []),
    "a long configuration": (R.GET_CONFIG, Config(200, 0, bytes(57)), []),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_done_is_counted_and_told(front_end, what):
    request, payload, files = REFUSED[what]
    assert front_end.ask(request, payload, files) == 1
    assert front_end.back_end.refused == {request.name: 1}
    assert front_end.ask(request, payload, files, flags=Flag(0)) is None


@pytest.mark.parametrize("address", [VringAddress(0, 0, USER + 8, USER, USER, 0), VringAddress(0, 0, 0, 0, 0, 0)])
def test_rings_that_cannot_be_are_refused(front_end, address):
    front_end.set_up()
    assert front_end.ask(R.SET_VRING_ADDR, address) == 0
    assert front_end.ask(R.SET_VRING_ENABLE, VringState(0, 1)) == 1
    assert front_end.back_end.refused == {"SET_VRING_ENABLE": 1}


def test_an_unknown_request_is_refused(front_end):
    assert front_end.back_end.receive(Message(99, None, Flag.NEED_REPLY)) == Message(99, 1, Flag.REPLY)
    assert front_end.back_end.refused == {"request 99": 1}


def test_after_the_front_end_there_are_no_queues(front_end):
    front_end.set_up()
    front_end.back_end.close()
    assert front_end.back_end.device.queues == {}


numbers = st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1))
words = st.one_of(st.integers(USER, USER + SIZE), st.integers(0, 2**64 - 1))
payloads = {
    R.SET_VRING_NUM: st.builds(VringState, numbers, numbers),
    R.SET_VRING_BASE: st.builds(VringState, numbers, numbers),
    R.GET_VRING_BASE: st.builds(VringState, numbers, numbers),
    R.SET_VRING_ENABLE: st.builds(VringState, numbers, numbers),
    R.VRING_KICK: st.builds(VringState, numbers, numbers),
    R.SET_VRING_ADDR: st.builds(VringAddress, numbers, numbers, words, words, words, words),
    R.SET_MEM_TABLE: st.builds(lambda r: MemoryTable((r,)), st.builds(Region, words, words, words, st.sampled_from([0, OFFSET]))),
    R.GET_CONFIG: st.builds(Config, numbers, numbers, st.binary(max_size=20)),
    R.SET_FEATURES: words,
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(sorted(payloads)).flatmap(lambda r: st.tuples(st.just(r), payloads[r])), max_size=12), st.data())
def test_no_conversation_raises(conversation, data):
    front_end = FrontEnd()
    if data.draw(st.booleans()):
        front_end.set_up()
    front_end.file.octets[OFFSET : OFFSET + 64] = data.draw(st.binary(min_size=64, max_size=64))
    for request, payload in conversation:
        front_end.ask(request, payload, [front_end.file] if request == R.SET_MEM_TABLE else [])
        front_end.far.send(b"x" * 60)
        front_end.loop.run_for(1)
