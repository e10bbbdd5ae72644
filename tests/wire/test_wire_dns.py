from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import labels

from netemu.errors import LocalError
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord, ResponseCode, a_record
from netemu.wire.dns_name import name_labels, name_text, pack_labels, read_labels
from netemu.wire.errors import WireError

QUERY = DnsMessage(0x1234, (Question("a.example.com", RecordType.A),), recursion_desired=True)
QUERY_OCTETS = bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\1a\7example\3com\0\0\1\0\1"


def answer(kind: int, data: bytes) -> bytes:
    """A response to QUERY with one answer of this type and data, written octet by octet; its data begins at octet 43."""
    head = bytes.fromhex("1234 8180 0001 0001 0000 0000") + QUERY_OCTETS[12:]
    return head + b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data


def test_a_query_octet_by_octet():
    assert QUERY.pack() == QUERY_OCTETS
    assert DnsMessage.parse(QUERY_OCTETS) == QUERY


def test_an_answer_octet_by_octet():
    response = DnsMessage(
        0x1234,
        QUERY.questions,
        (a_record("a.example.com", IPv4Address("10.0.2.3"), 60),),
        response=True,
        recursion_desired=True,
        recursion_available=True,
    )
    assert response.pack() == answer(RecordType.A, bytes((10, 0, 2, 3)))
    assert DnsMessage.parse(response.pack()) == response
    assert response.answers[0].address == IPv4Address("10.0.2.3")


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({"response": True}, "8000"),
        ({"opcode": 15}, "7800"),
        ({"authoritative": True}, "0400"),
        ({"truncated": True}, "0200"),
        ({"recursion_desired": True}, "0100"),
        ({"recursion_available": True}, "0080"),
        ({"response_code": ResponseCode.REFUSED}, "0005"),
    ],
)
def test_each_flag_has_its_place(change, flags):
    octets = DnsMessage(0, **change).pack()
    assert octets[2:4].hex() == flags
    assert DnsMessage.parse(octets) == DnsMessage(0, **change)


def test_the_reserved_bits_are_ignored():
    assert DnsMessage.parse(QUERY_OCTETS[:3] + b"\x70" + QUERY_OCTETS[4:]) == QUERY


def test_names_are_compressed_to_any_earlier_suffix():
    message = DnsMessage(0, (Question("b.example.com", 1), Question("c.b.example.com", 1), Question("example.com", 1)))
    octets = message.pack()
    assert octets[12:] == b"\1b\7example\3com\0\0\1\0\1" + b"\1c\xc0\x0c\0\1\0\1" + b"\xc0\x0e\0\1\0\1"
    assert DnsMessage.parse(octets) == message


def test_no_pointer_reaches_behind_16383():
    filler = ResourceRecord("x", RecordType.TXT, 0, bytes(0x4000))
    message = DnsMessage(0, (), (filler, a_record("late.name", IPv4Address(1), 0), a_record("late.name", IPv4Address(2), 0)))
    octets = message.pack()
    assert octets.count(b"\4late\4name\0") == 2
    assert DnsMessage.parse(octets) == message


@pytest.mark.parametrize(
    ("kind", "data", "expanded"),
    [
        (RecordType.CNAME, b"\1b\xc0\x0e", b"\1b\7example\3com\0"),
        (RecordType.NS, b"\xc0\x0e", b"\7example\3com\0"),
        (RecordType.PTR, b"\xc0\x0e", b"\7example\3com\0"),
        (RecordType.MX, b"\0\x0a\2mx\xc0\x0e", b"\0\x0a\2mx\7example\3com\0"),
        (RecordType.SRV, b"\0\1\0\2\0\3\xc0\x0c", b"\0\1\0\2\0\3\1a\7example\3com\0"),
        (RecordType.SOA, b"\xc0\x0e\1r\xc0\x0e" + bytes(range(20)), b"\7example\3com\0\1r\7example\3com\0" + bytes(range(20))),
        (RecordType.TXT, b"\2\xc0\x0e", b"\2\xc0\x0e"),  # no name in there, though it looks like one
    ],
)
def test_names_in_data_are_decompressed(kind, data, expanded):
    (record,) = DnsMessage.parse(answer(kind, data)).answers
    assert record == ResourceRecord("a.example.com", kind, 60, expanded)
    assert record.address is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (RecordType.A, bytes(3)),
        (RecordType.A, bytes(16)),
        (RecordType.AAAA, bytes(4)),
        (RecordType.CNAME, b"\1b\0\0"),  # more than a name
        (RecordType.MX, b"\0"),
        (RecordType.SOA, b"\0\0" + bytes(19)),
    ],
)
def test_data_that_does_not_fit_its_type_is_a_wire_error(kind, data):
    with pytest.raises(WireError) as caught:
        DnsMessage.parse(answer(kind, data))
    assert caught.value.field in {"dns.rdlength", "dns.rdata"}


@pytest.mark.parametrize("kind", [RecordType.A, RecordType.CNAME])
def test_a_record_of_another_class_may_have_no_data(kind):
    # An update deletes a name's records so: class ANY (255), no data (RFC 2136, 2.5.2).
    update = DnsMessage(0, (), (), (ResourceRecord("a", kind, 0, b"", 255),), opcode=5)
    assert DnsMessage.parse(update.pack()) == update


@pytest.mark.parametrize(
    ("tail", "at"),
    [
        (b"\xc0\x0c", 12),  # to itself
        (b"\xc0\x0d", 12),  # forward
        (b"\1a\xc0\x0c", 14),  # into its own labels
        (b"\1a\xc0\x0e", 14),
        (b"\xff\xff", 12),
    ],
)
def test_a_pointer_must_lead_backwards(tail, at):
    octets = bytes.fromhex("1234 0100 0001 0000 0000 0000") + tail + b"\0\1\0\1"
    with pytest.raises(WireError, match="does not lead backwards") as caught:
        DnsMessage.parse(octets)
    assert caught.value.offset == at


def test_a_pointer_behind_a_pointer_must_lead_backwards_too():
    # From 4 back to 0, and from there forward to 2: in front of where the name began, but not of where the pointer stands.
    with pytest.raises(WireError, match="does not lead backwards") as caught:
        read_labels(b"\xc0\x02\0\0\xc0\x00", 4, "name")
    assert caught.value.offset == 0


def test_two_pointers_to_each_other_are_no_loop():
    with pytest.raises(WireError, match="does not lead backwards"):
        read_labels(b"\xc0\x02\xc0\x00", 2, "name")


def test_a_chain_of_pointers_is_followed_only_so_far():
    chain = b"\0" + b"".join((0xC000 | max(0, 2 * i - 1)).to_bytes(2, "big") for i in range(200))
    assert read_labels(chain, 1 + 2 * 126, "name") == ([], 1 + 2 * 127)
    with pytest.raises(WireError):
        read_labels(chain, 1 + 2 * 127, "name")


@pytest.mark.parametrize("octet", [0x40, 0x80, 0xBF])
def test_the_other_label_types_are_refused(octet):
    with pytest.raises(WireError, match="neither a label nor a pointer"):
        read_labels(bytes((octet,)) + bytes(100), 0, "name")


@pytest.mark.parametrize("octets", [b"", b"\3ab", b"\1a", b"\xc0"])
def test_a_name_past_the_end_is_a_wire_error(octets):
    with pytest.raises(WireError, match="past the end"):
        read_labels(octets, 0, "name")


def test_a_name_has_at_most_255_octets():
    longest = [b"x" * 63] * 3 + [b"x" * 61]
    assert len(pack_labels(longest)) == 255
    assert read_labels(pack_labels(longest), 0, "name") == (longest, 255)
    assert name_labels(name_text(longest)) == longest
    too_long = [b"x" * 63] * 3 + [b"x" * 62]
    with pytest.raises(WireError, match="255"):
        read_labels(pack_labels(too_long), 0, "name")
    with pytest.raises(LocalError, match="255"):
        name_labels(name_text(too_long))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", []),
        ("", []),
        ("example.com", [b"example", b"com"]),
        ("example.com.", [b"example", b"com"]),
        (r"a\.b.c", [b"a.b", b"c"]),
        (r"\000\255\\", [b"\x00\xff\\"]),
        (r"\a", [b"a"]),
        (r"\12", [b"12"]),  # not three digits, so the character itself
    ],
)
def test_names_as_text(text, expected):
    assert name_labels(text) == expected


@settings(max_examples=200, deadline=None)
@given(name=labels)
def test_any_labels_have_a_text_that_gives_them_back(name):
    assert name_labels(name_text(name)) == name


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab.\\019é\n"), max_size=12))
def test_any_text_is_a_name_or_a_local_error(text):
    try:
        name = name_labels(text)
    except LocalError:
        return
    assert read_labels(pack_labels(name), 0, "name")[0] == name


@pytest.mark.parametrize("text", ["a..b", ".a", "x" * 64, "bücher.example", "a\\", r"\256", "\\é"])
def test_a_bad_name_is_a_local_error(text):
    with pytest.raises(LocalError, match="domain name"):
        name_labels(text)


@pytest.mark.parametrize("cut", [12, 20, 30])
def test_counts_that_promise_more_than_there_is(cut):
    with pytest.raises(WireError):
        DnsMessage.parse(QUERY_OCTETS[:cut])


def test_data_too_long_for_its_length_is_a_local_error():
    with pytest.raises(LocalError):
        DnsMessage(0, (), (ResourceRecord("a", RecordType.TXT, 0, bytes(65536)),)).pack()
