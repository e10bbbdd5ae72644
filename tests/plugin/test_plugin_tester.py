"""The tester's words when an expectation fails."""

import pytest

from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.tcp import Tcp


@pytest.mark.parametrize(
    ("pings", "said"), [(0, "nothing came"), (2, "these are all that came:"), (20, "20 frames came, of which these are the last:")]
)
def test_what_came_instead_is_listed(netemu_tester, pings, said):
    netemu_tester.gateway_mac  # noqa: B018 - asks for it, so that the pings are all that is answered below
    for number in range(pings):
        netemu_tester.send_icmp(Icmpv4.echo_request(1, number, b""))
    with pytest.raises(AssertionError) as failure:
        netemu_tester.expect(Tcp)
    first, *listed = str(failure.value).splitlines()
    assert first == f"expected Tcp() within 1 s, but {said}"
    assert len(listed) == min(pings, 12)
