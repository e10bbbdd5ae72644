"""The Internet checksum (RFC 1071) and the pseudo-header that TCP and UDP add to it (RFC 9293 3.1, RFC 768).

The ones' complement sum of 16-bit words is the whole buffer read as one big-endian number modulo 65,535, because
65,536 is 1 modulo 65,535 (RFC 1071 2(B), the sum may be taken in words of any width). Python does that division in C.
The two zeros of ones' complement need care: the remainder 0 stands for 0 only when every word was 0, and for 0xffff
otherwise, just as the end-around carry leaves it.
"""

from __future__ import annotations

from netemu.wire.fields import Buffer, IPAddress

__all__ = ["internet_checksum", "ones_complement_sum", "pseudo_header_sum"]


def ones_complement_sum(data: Buffer, initial: int = 0) -> int:
    """The sum of `data` in 16-bit words, 0..0xffff, not complemented.

    An odd last octet is padded with zero on the right. `initial` is a sum to go on from; what it covered must have had an
    even number of octets.
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    number += initial
    return number % 0xFFFF or (0xFFFF if number else 0)


def internet_checksum(data: Buffer, initial: int = 0) -> int:
    """The value to store in a checksum field, whose own octets are zero in `data`.

    Over data that holds a right checksum the result is 0.
    """
    return 0xFFFF - ones_complement_sum(data, initial)


def pseudo_header_sum(source: IPAddress, destination: IPAddress, protocol: int, length: int) -> int:
    """The sum of the pseudo-header, to start a transport checksum from; `length` is the segment's, in octets.

    Serves IPv4 and IPv6 (RFC 8200 8.1) alike: both add the same words, and zeros between them.
    """
    number = int(source) + int(destination) + protocol + length
    return number % 0xFFFF or (0xFFFF if number else 0)
