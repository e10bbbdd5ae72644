"""Messages of vhost-user: octets as the document has them, and octets that are none."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import PeerError
from netemu.vhost_user.messages import (
    BACK_END,
    FRONT_END,
    Config,
    Decoder,
    Flag,
    FrontEndRequest,
    MemoryTable,
    Message,
    Region,
    VringAddress,
    VringState,
    encode,
)

# Each as User-mode Linux 6.12 sent it, or would.
WRITTEN = {
    "SET_OWNER": (Message(FrontEndRequest.SET_OWNER), "03000000 01000000 00000000"),
    "SET_FEATURES": (
        Message(FrontEndRequest.SET_FEATURES, 0x140010020, Flag.NEED_REPLY),
        "02000000 09000000 08000000 2000014001000000",
    ),
    "SET_VRING_NUM": (Message(FrontEndRequest.SET_VRING_NUM, VringState(1, 256)), "08000000 01000000 08000000 01000000 00010000"),
    "SET_VRING_ADDR": (
        Message(FrontEndRequest.SET_VRING_ADDR, VringAddress(1, 0, 0x60FE0000, 0x60FE3000, 0x60FE1000, 0)),
        "09000000 01000000 28000000 01000000 00000000 0000fe6000000000 0030fe6000000000 0010fe6000000000 0000000000000000",
    ),
    "SET_MEM_TABLE": (
        Message(FrontEndRequest.SET_MEM_TABLE, MemoryTable((Region(0x4C6000, 0x3B3A000, 0x604C6000, 0x4C6000),))),
        "05000000 01000000 28000000 01000000 00000000 0060 4c00 00000000 00a0 b303 00000000 0060 4c60 00000000 0060 4c00 00000000",
    ),
    "GET_CONFIG": (
        Message(FrontEndRequest.GET_CONFIG, Config(0, 0, b"\x52\x54")),
        "18000000 01000000 0e000000 0000000002000000000000005254",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_octets_are_those_of_the_document(name):
    message, octets = WRITTEN[name]
    assert encode(message).hex() == octets.replace(" ", "")
    decoder = Decoder(FRONT_END)
    *parts, last = bytes.fromhex(octets)
    assert [decoder.feed(bytes([part])) for part in parts] == [None] * len(parts)
    assert decoder.wanted == 1
    assert decoder.feed(bytes([last])) == message
    assert decoder.wanted == 12


def test_a_reply_is_a_number():
    octets = encode(Message(4, 0, Flag.REPLY))
    decoder = Decoder(BACK_END)
    decoder.feed(octets[:12])
    assert decoder.feed(octets[12:]) == Message(4, 0, Flag.REPLY)


def test_an_unknown_request_comes_without_its_payload():
    decoder = Decoder(FRONT_END)
    assert decoder.feed(struct.pack("<III", 99, 1, 3)) is None
    assert decoder.feed(b"abc") == Message(99)


@pytest.mark.parametrize(
    ("header", "body", "match"),
    [
        ((1, 2, 0), b"", "not of version 1"),
        ((1, 1, 4097), b"", "4096 are allowed"),
        ((2, 1, 4), b"1234", "payload of 4 octets"),
        ((5, 1, 8), struct.pack("<II", 9, 0), "table of 9 memory regions"),
        ((5, 1, 8), struct.pack("<II", 1, 0), "payload of 8 octets"),
        ((24, 1, 12), struct.pack("<III", 0, 6, 0), "6 octets of configuration in a payload of 12"),
    ],
)
def test_what_is_no_message_ends_the_stream(header, body, match):
    decoder = Decoder(FRONT_END)

    def feed():
        decoder.feed(struct.pack("<III", *header))
        decoder.feed(body)

    with pytest.raises(PeerError, match=match):
        feed()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([FRONT_END, BACK_END]))
def test_any_octets_are_messages_or_refused(octets, table):
    decoder = Decoder(table)
    try:
        while octets:
            wanted = decoder.wanted
            assert wanted > 0
            decoder.feed(octets[:wanted])
            octets = octets[wanted:]
    except PeerError:
        pass
