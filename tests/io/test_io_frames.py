"""Frames through descriptors: seqpacket sockets and TAP devices."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.seqpacket import SeqpacketPort
from netemu.io.tap import TapPort
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.offload import CSUM, TSO4
from netemu.net.port import MAX_FRAME, Port, connect
from netemu.wire.vnet_hdr import GSO_TCPV4, NEEDS_CSUM, VnetHeader

GENEROUS = 20 * SECOND


def until(loop, condition):
    assert loop.run_until(condition, loop.now() + GENEROUS)


class Inbox:
    """A port that keeps what it receives, while it is willing."""

    def __init__(self, loop, other, offloads=0):
        self.frames = []
        self.willing = True
        with loop:
            self.port = Port(loop, "inbox")
            self.port.attach(self._receive, offloads=offloads)
            connect(self.port, other)

    def _receive(self, frame, header):
        if self.willing:
            self.frames.append((frame, header))
        return self.willing


# SOCK_SEQPACKET


@pytest.fixture
def seqpacket(loop, tmp_path):
    port = SeqpacketPort(loop, "bess", str(tmp_path / "vec0"))
    yield port
    port.close()


@pytest.fixture
def inbox(loop, seqpacket):
    return Inbox(loop, seqpacket.port)


@pytest.fixture
def peer(loop, seqpacket):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(GENEROUS / SECOND)
        peer.connect(seqpacket.path)
        until(loop, lambda: seqpacket.connected)
        yield peer


def test_one_message_is_one_frame(loop, seqpacket, inbox, peer):
    frames = [bytes([number]) * (60 + number) for number in range(10)]
    for frame in frames:
        peer.send(frame)
    until(loop, lambda: len(inbox.frames) == len(frames))
    assert inbox.frames == [(frame, None) for frame in frames]
    with loop:
        for frame in frames:
            inbox.port.send(frame)
    until(loop, lambda: seqpacket.port.counters["received"] == len(frames))
    assert [peer.recv(MAX_FRAME) for _ in frames] == frames


def test_the_longest_frame_fits(loop, seqpacket, inbox, peer):
    peer.send(bytes(MAX_FRAME))
    until(loop, lambda: inbox.frames)
    assert len(inbox.frames[0][0]) == MAX_FRAME


def test_a_busy_receiver_leaves_frames_in_the_kernel(loop, seqpacket, inbox, peer):
    with loop:
        inbox.willing = False
    peer.setblocking(False)
    sent = 0
    for _ in range(100_000):
        try:
            peer.send(sent.to_bytes(60, "big"))
            sent += 1
        except BlockingIOError:
            loop.run_for(10 * MILLISECOND)  # what can be read has been read now
            try:
                peer.send(sent.to_bytes(60, "big"))
                sent += 1
            except BlockingIOError:
                break
    else:
        pytest.fail("the kernel never pushed back")
    assert inbox.port.queued < 200
    with loop:
        inbox.willing = True
        inbox.port.flush()
    until(loop, lambda: len(inbox.frames) == sent)
    assert [int.from_bytes(frame, "big") for frame, _ in inbox.frames] == list(range(sent))


def test_a_busy_kernel_makes_the_port_busy(loop, seqpacket, inbox, peer):
    writable = []
    sent = 0
    with loop:
        inbox.port.on_writable = lambda: writable.append(True)

    def fill():
        nonlocal sent
        for _ in range(64):
            sent += 1
            if not inbox.port.send(sent.to_bytes(1000, "big")):
                return
        loop.call_soon(fill)

    with loop:
        loop.call_soon(fill)
    until(loop, lambda: inbox.port.busy)
    assert writable == []
    for number in range(1, sent + 1):
        if not number % 8:
            loop.run_for(0)
        assert int.from_bytes(peer.recv(MAX_FRAME), "big") == number
    until(loop, lambda: writable)
    assert not inbox.port.busy


def test_what_a_frame_asks_for_is_done_before_a_descriptor_without_headers(loop, seqpacket, inbox, peer):
    with loop:
        inbox.port.send(b"x" * 60, VnetHeader(flags=NEEDS_CSUM, csum_start=70))  # makes no sense
        inbox.port.send(bytes(14) + b"\0\1" * 23, VnetHeader(flags=NEEDS_CSUM, csum_start=14, csum_offset=6))
        inbox.port.send(b"y" * 60, VnetHeader())
    until(loop, lambda: seqpacket.port.counters["received"] == 2)
    assert peer.recv(MAX_FRAME) == bytes(14) + b"\0\1" * 3 + (0xFFFF - 23).to_bytes(2, "big") + b"\0\1" * 19
    assert peer.recv(MAX_FRAME) == b"y" * 60
    assert inbox.port.counters["dropped-offload"] == 1


def test_one_peer_at_a_time_and_then_another(loop, seqpacket, inbox, peer):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second:
        second.connect(seqpacket.path)
        until(loop, lambda: seqpacket.port.counters["refused-second"])
        second.settimeout(GENEROUS / SECOND)
        assert second.recv(100) == b""
    peer.close()
    until(loop, lambda: not seqpacket.connected)
    with loop:
        inbox.port.send(b"nobody hears this" * 4)
    until(loop, lambda: seqpacket.port.counters["dropped-no-descriptor"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as third:
        third.connect(seqpacket.path)
        third.send(b"x" * 60)
        until(loop, lambda: inbox.frames)


def test_a_peer_that_goes_while_frames_wait(loop, seqpacket, inbox, peer):
    with loop:
        inbox.willing = False
    for _ in range(3):
        peer.send(bytes(60))
    peer.close()
    loop.run_for(10 * MILLISECOND)
    with loop:
        inbox.willing = True
        inbox.port.flush()
    until(loop, lambda: len(inbox.frames) == 3)
    until(loop, lambda: not seqpacket.connected)


def test_paths(loop, seqpacket, tmp_path):
    with pytest.raises(HostError) as caught:
        SeqpacketPort(loop, "again", seqpacket.path)
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(LocalError, match="shorter directory"):
        SeqpacketPort(loop, "long", "/x" * 60)
    seqpacket.close()
    assert not os.path.exists(seqpacket.path)
    seqpacket.close()


# TAP

ARP_PROBE = bytes.fromhex("ffffffffffff 5254001234560806 0001080006040001 525400123456 c6336402 000000000000 c6336401") + bytes(18)


@pytest.fixture
def tap(loop, namespace):
    namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")  # it would speak first
    tap = TapPort(loop, namespace, "tap0")
    namespace.add_address("198.51.100.1/24", "tap0")
    yield tap
    tap.close()


def test_linux_answers_behind_the_tap(loop, namespace, tap):
    inbox = Inbox(loop, tap.port)
    with loop:
        inbox.port.send(ARP_PROBE)
    until(loop, lambda: inbox.frames)
    reply, header = inbox.frames[0]
    assert (reply[:6], reply[12:14], reply[20:22]) == (ARP_PROBE[6:12], b"\x08\x06", b"\0\2")
    assert header is None


def udp_frame(loop, namespace, inbox):
    """The first UDP datagram that Linux sends out of the TAP, once ARP was answered."""
    with namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"payload!", ("198.51.100.2", 9))
        until(loop, lambda: inbox.frames)
        request, _ = inbox.frames.pop()
        assert request[12:14] == b"\x08\x06"
        answer = request[6:12] + ARP_PROBE[6:20] + b"\0\2" + ARP_PROBE[22:32] + request[22:32] + bytes(18)
        with loop:
            inbox.port.send(answer)
        until(loop, lambda: inbox.frames)
    return inbox.frames.pop()


def test_without_offloads_checksums_are_whole(loop, namespace, tap):
    frame, header = udp_frame(loop, namespace, Inbox(loop, tap.port))
    assert (frame.endswith(b"payload!"), header) == (True, None)


def test_with_offloads_the_kernel_leaves_work_to_us(loop, namespace):
    tap = TapPort(loop, namespace, "tap0")
    namespace.add_address("198.51.100.1/24", "tap0")
    inbox = Inbox(loop, tap.port, CSUM | TSO4)
    with namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        namespace.call(os.system, "ip neigh add 198.51.100.2 lladdr 52:54:00:12:34:56 dev tap0")
        sender.sendto(b"payload!", ("198.51.100.2", 9))
        until(loop, lambda: any(frame.endswith(b"payload!") for frame, _ in inbox.frames))
    header = next(header for frame, header in inbox.frames if frame.endswith(b"payload!"))
    assert header is not None
    assert (header.flags, header.csum_start, header.csum_offset) == (NEEDS_CSUM, 34, 6)
    tap.close()


def test_what_we_ask_of_the_kernel_it_does(loop, namespace, tap):
    """A datagram with half a checksum arrives; the same without the request does not."""
    inbox = Inbox(loop, tap.port)
    mac = linux_mac(loop, inbox)
    with namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(GENEROUS / SECOND)
        receiver.bind(("198.51.100.1", 9))
        source, destination = bytes.fromhex("c6336402"), bytes.fromhex("c6336401")
        pseudo = source + destination + bytes.fromhex("0011 000e")
        for payload, header in ((b"wrong!", None), (b"right!", VnetHeader(NEEDS_CSUM, 0, 0, 0, 34, 6))):
            udp = bytes.fromhex("1389 0009 000e") + internet_sum(pseudo).to_bytes(2, "big") + payload
            ip = bytes.fromhex("4500 0022 0001 0000 4011 0000") + source + destination
            ip = ip[:10] + (0xFFFF - internet_sum(ip)).to_bytes(2, "big") + ip[12:]
            with loop:
                inbox.port.send(mac + ARP_PROBE[6:12] + b"\x08\x00" + ip + udp, header)
        until(loop, lambda: tap.port.counters["received"] == 3)
        assert receiver.recv(100) == b"right!"


def linux_mac(loop, inbox):
    with loop:
        inbox.port.send(ARP_PROBE)
    until(loop, lambda: inbox.frames)
    return inbox.frames.pop()[0][6:12]


def internet_sum(data):
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    return (total & 0xFFFF) + (total >> 16)


def test_an_interface_that_is_down_drops_and_counts(loop, namespace, tap):
    inbox = Inbox(loop, tap.port)
    namespace.call(os.system, "ip link set tap0 down")
    with loop:
        inbox.port.send(ARP_PROBE)
    until(loop, lambda: tap.port.counters["dropped-EIO"])


def test_names_and_refusals(loop, namespace, tap):
    with pytest.raises(LocalError, match="1 to 15 octets"):
        TapPort(loop, namespace, "a" * 16)
    with pytest.raises(HostError) as caught:
        TapPort(loop, namespace, "tap0")
    assert caught.value.errno == errno.EBUSY
    tap.close()
    assert namespace.call(socket.if_nameindex) == [(1, "lo")]
    tap.close()


def test_segmentation_requests_are_passed_on(loop, namespace, tap):
    """The kernel takes a frame longer than the MTU with a request to segment; it refuses a senseless one (EINVAL)."""
    inbox = Inbox(loop, tap.port)
    with loop:
        inbox.port.send(ARP_PROBE, VnetHeader(gso_type=GSO_TCPV4, gso_size=0, hdr_len=54))
    until(loop, lambda: tap.port.counters["dropped-EINVAL"])
