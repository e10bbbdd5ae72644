"""The mutants: what is broken, and which requirements' checks must notice. Names have no hyphen: node ids are split there."""

from __future__ import annotations

from mutants_dhcp import DHCP_CLIENT, DHCP_SERVER
from mutants_ip import ARP, FRAGMENTS, ICMP, IPV4, UDP
from mutants_ipv6 import DHCP6_SERVER, DISCOVERY6, IPV6
from mutants_services import FORWARDS, NAMES, OPTIONS, PING
from mutants_tcp import TCP_CLOSE, TCP_DATA, TCP_HANDSHAKE, TCP_URGENT
from mutants_tftp import TFTP
from mutants_wire import WIRE_ARP, WIRE_ICMP, WIRE_IPV4
from mutants_wire6 import WIRE_HEADERS6, WIRE_ICMP6, WIRE_NEIGHBOURS6
from mutants_wire6_dhcp import WIRE_DHCP6
from mutants_wire6_nodes import WIRE_ADDRESSES6, WIRE_PATHS6, WIRE_ROUTERS6
from mutants_wire_dhcp import WIRE_DHCP
from mutants_wire_dns import WIRE_DNS
from mutants_wire_tcp import WIRE_TCP
from mutants_wire_udp import WIRE_UDP

USER_NETWORK = (
    *ARP,
    *IPV4,
    *ICMP,
    *FRAGMENTS,
    *UDP,
    *TCP_HANDSHAKE,
    *TCP_DATA,
    *TCP_URGENT,
    *TCP_CLOSE,
    *DHCP_SERVER,
    *DHCP_CLIENT,
    *NAMES,
    *FORWARDS,
    *PING,
    *OPTIONS,
    *TFTP,
    *DISCOVERY6,
    *IPV6,
    *DHCP6_SERVER,
)

WIRE = (
    *WIRE_ARP,
    *WIRE_IPV4,
    *WIRE_ICMP,
    *WIRE_UDP,
    *WIRE_TCP,
    *WIRE_HEADERS6,
    *WIRE_ICMP6,
    *WIRE_NEIGHBOURS6,
    *WIRE_ROUTERS6,
    *WIRE_ADDRESSES6,
    *WIRE_PATHS6,
    *WIRE_DHCP,
    *WIRE_DNS,
    *WIRE_DHCP6,
)

MUTANTS = {"pytest_netemu.suites.user_network": USER_NETWORK, "pytest_netemu.suites.wire": WIRE}
