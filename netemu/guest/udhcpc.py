"""Leasing with udhcpc, BusyBox's DHCP client: its event script, how it is called, and what a test gets of it.

udhcpc talks DHCP and leaves everything else to a script, which it calls with what it learnt in environment variables. `SCRIPT` sets
the address and the default route of the interface and prints the variables, one `name=value` a line; `parse_lease` reads them.
The script uses builtins of the shell and as few programs as it can: each costs a guest milliseconds.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address

from netemu.errors import PeerError
from netemu.guest.protocol import Lease

__all__ = ["SCRIPT", "command", "dismiss", "parse_lease", "resident_command"]

_RENEWAL_TIME = 58  # RFC 2132 9.11; udhcpc gives options it has no name for as `opt58`, in hexadecimal
_REBINDING_TIME = 59  # RFC 2132 9.12
_NAMED = ("ip", "mask", "router", "dns", "serverid", "lease", "hostname", "domain", "mtu")
_UNNAMED = (_RENEWAL_TIME, _REBINDING_TIME)
_MTU = 26  # RFC 2132 5.1; not asked for unless told to
_HOST_PREFIX = 32  # a lease without a subnet mask (RFC 2132 3.3) is for the address alone

_PID = "/tmp/udhcpc.pid"  # inside the guest
_LOG = "/tmp/udhcpc.log"

_PRINTED = " ".join((*_NAMED, *(f"opt{code}" for code in _UNNAMED)))

SCRIPT = f"""#!/bin/busybox sh
case $1 in
deconfig)
    ip addr flush dev $interface
    ;;
bound | renew)
    ip addr replace $ip/${{mask:-{_HOST_PREFIX}}} dev $interface
    for via in $router; do
        ip route replace default via $via dev $interface
        break
    done
    [ -n "$mtu" ] && ip link set $interface mtu $mtu
    for name in {_PRINTED}; do
        eval "value=\\$$name"
        [ -n "$value" ] && echo "$name=$value"
    done
    ;;
esac
exit 0
"""


def command(interface: str, script: str, timeout: float) -> str:
    """The shell command that leases an address for `interface` and ends, or ends with status 1 after about `timeout` seconds.

    A request that is not answered is sent again a second later.
    """
    return f"udhcpc -f -q {_arguments(interface, script, timeout)}"


def resident_command(interface: str, script: str, timeout: float) -> str:
    """The same, with a client that stays and looks after the lease, until `dismiss`."""
    client = f"udhcpc -p {_PID} {_arguments(interface, script, timeout)} >{_LOG} 2>&1"
    return f"{dismiss()}; {client}; status=$?; cat {_LOG}; exit $status"


def dismiss() -> str:
    """The shell command that ends a client that stayed, if there is one; the address is left as it is."""
    return f"[ -f {_PID} ] && read pid <{_PID} && kill $pid"


def _arguments(interface: str, script: str, timeout: float) -> str:
    asked = " ".join(f"-O {code}" for code in (_MTU, *_UNNAMED))
    return f"-n -i {interface} -s {script} -t {max(1, round(timeout))} -T 1 {asked}"


def parse_lease(output: str) -> Lease:
    """The lease that `SCRIPT` printed; other lines are passed over. None printed, or one that is nonsense, is a `PeerError`."""
    given = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if "ip" not in given:
        raise PeerError(f"udhcpc printed no address: {output.strip()[-500:]!r}")
    options: dict[int, bytes] = {}

    def number(name: str) -> int | None:
        return int(given[name]) if name in given else None

    def seconds(code: int) -> int | None:
        return int.from_bytes(options[code], "big") if code in options else None

    def addresses(name: str) -> tuple[IPv4Address, ...]:
        return tuple(IPv4Address(word) for word in given.get(name, "").split())

    try:
        options.update((code, bytes.fromhex(given[f"opt{code}"])) for code in _UNNAMED if f"opt{code}" in given)
        return Lease(
            address=IPv4Address(given["ip"]),
            prefix_length=number("mask") or _HOST_PREFIX,
            server=next(iter(addresses("serverid")), None),
            routers=addresses("router"),
            dns=addresses("dns"),
            lease_time=number("lease"),
            renewal_time=seconds(_RENEWAL_TIME),
            rebinding_time=seconds(_REBINDING_TIME),
            domain=given.get("domain"),
            hostname=given.get("hostname"),
            mtu=number("mtu"),
            options=options,
        )
    except (ValueError, AddressValueError) as error:
        raise PeerError(f"udhcpc printed a lease that is none: {error}") from None
