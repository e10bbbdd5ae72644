"""Option strings of `-netdev user`, judged by QEMU itself and by us: taken or refused by both, but for the deviations named here.

QEMU runs without a machine, so nothing is sent: each network is made and removed over QMP.
"""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.simhost import SimHost
from netemu.net.loop import VirtualLoop
from netemu.netdev import create

QEMU = "qemu-system-x86_64"
LONG = "x" * 256

TAKEN = [
    "ipv4=on",
    "ipv6=on",
    "ipv4=off",
    "ipv6=off",
    "ipv4",
    "restrict",
    "restrict=yes",
    "restrict=y",
    "restrict=true",
    "restrict=off",
    "restrict=no",
    "restrict=n",
    "restrict=false",
    "net=10.0.2.0",
    "net=10.0.2.0/24",
    "net=10.0.2.0/255.255.255.0",
    "net=10.0.2.7/24",
    "net=10.0.2.0/4",
    "net=192.168.7.0",
    "net=172.16.0.0",
    "net=224.0.0.0",
    "net=10.0.2.0/29,dhcpstart=10.0.2.4",
    "net=192.0.2.16,dhcpstart=192.0.2.21",
    "ip=10.0.7.0",
    "ip=10.0.7.0,net=10.0.9.0/24,host=10.0.9.9",
    "host=10.0.2.1",
    "dns=10.0.2.9",
    "dns=10.0.2.4",
    "dns=192.0.2.53",
    "dhcpstart=10.0.2.4",
    "dhcpstart=10.0.2.254",
    "ipv6-prefix=2001:db8::",
    "ipv6-prefix=2001:db8::,ipv6-prefixlen=48",
    "ipv6-prefixlen=0",
    "ipv6-prefixlen=126",
    "ipv6-net=2001:db8::/64",
    "ipv6-net=2001:db8::",
    "ipv6-host=fec0::9",
    "ipv6-dns=fec0::9",
    "ipv6-dns=fec1::9",
    "hostname=guest",
    "hostname=",
    "hostname=a,,b",
    "domainname=example.org",
    "dnssearch=a.test,dnssearch=b.test",
    "tftp-server-name=boot",
    "tftp-server-name=",
    "bootfile=pxe.0",
    "bootfile=",
    "tftp=/",
    "hostfwd=tcp:127.0.0.1:0-:80",
    "hostfwd=tcp:127.0.0.1:0-10.0.2.20:80",
    "hostfwd=:127.0.0.1:0-:80",
    "hostfwd=udp:127.0.0.1:0-:80",
    "hostfwd=tcp:127.0.0.1:0-:65535",
    "hostfwd=tcp:127.0.0.1:0x0-:0x50",
    "hostfwd=tcp:127.0.0.1:00-:0120",
    "hostfwd=tcp:127.0.0.1:-:80",
    "hostfwd=tcp:127.0.0.1:0-:80,hostfwd=udp:127.0.0.1:0-:81",
    "guestfwd=tcp:10.0.2.100:80-cmd:true",
    "guestfwd=:10.0.2.100:80-cmd:true",
    "guestfwd=tcp::80-cmd:true",
    "guestfwd=tcp:10.0.2.100:80-cmd:true,guestfwd=tcp:10.0.2.100:81-cmd:true",
]

REFUSED = [
    "ipv4=off,ipv6=off",
    "ipv4=off,net=10.0.2.0/24",
    "ipv4=off,host=10.0.2.2",
    "ipv4=off,dns=10.0.2.3",
    "ipv6=off,ipv6-host=fec0::2",
    "ipv6=off,ipv6-dns=fec0::3",
    "ipv6=off,ipv6-prefix=fec0::",
    "restrict=maybe",
    "restrict=1",
    "restrict=ON",
    "net=10.0.2.0/3",
    "net=10.0.2.0/31",
    "net=10.0.2.0/33",
    "net=10.0.2.0/",
    "net=10.0.2.0/ff",
    "net=ten",
    "net=",
    "host=10.0.3.2",
    "host=10.0.2.3",
    "host=10.0.2.15",
    "host=gateway",
    "host=",
    "dns=192.0.2.53,restrict=on",
    "dns=10.0.2.2",
    "dns=10.0.2.15",
    "dns=ns",
    "dhcpstart=10.0.2.2",
    "dhcpstart=10.0.2.3",
    "dhcpstart=10.0.3.15",
    "dhcpstart=x",
    "ipv6-prefixlen=127",
    "ipv6-prefixlen=-1",
    "ipv6-prefixlen=x",
    "ipv6-net=2001:db8::/127",
    "ipv6-net=2001:db8::/x",
    "ipv6-net=2001:db8::/",
    "ipv6-net=nonsense",
    "ipv6-prefix=nonsense",
    "ipv6-host=fec1::9",
    "ipv6-host=x",
    "ipv6-dns=fec1::9,restrict=on",
    "ipv6-dns=x",
    f"hostname={LONG}",
    "domainname=",
    f"domainname={LONG}",
    f"tftp-server-name={LONG}",
    "smb=/nonexistent",
    "smbserver=x",
    "hostfwd=",
    "hostfwd=-",
    "hostfwd=sctp:127.0.0.1:0-:80",
    "hostfwd=127.0.0.1:0-:80",
    "hostfwd=tcp:127.0.0.1:0:80",
    "hostfwd=tcp:127.0.0.1:0-80",
    "hostfwd=tcp:127.0.0.1:0-:0",
    "hostfwd=tcp:127.0.0.1:0-:",
    "hostfwd=tcp:127.0.0.1:0-:80x",
    "hostfwd=tcp:127.0.0.1:0-:65536",
    "hostfwd=tcp:127.0.0.1:65536-:80",
    "hostfwd=tcp:127.0.0.1:x-:80",
    "hostfwd=tcp:localhost:0-:80",
    "hostfwd=tcp:300.0.0.1:0-:80",
    "hostfwd=tcp:127.0.0.1:0-guest:80",
    "hostfwd=tcp:192.0.2.99:0-:80",
    "hostfwd=unix:relative-:80",
    "guestfwd=",
    "guestfwd=udp:10.0.2.100:80-cmd:true",
    "guestfwd=tcp:10.0.2.100:80",
    "guestfwd=tcp:10.0.2.100:80-",
    "guestfwd=tcp:10.0.2.100:0-cmd:true",
    "guestfwd=tcp:10.0.2.100:0x50-cmd:true",
    "guestfwd=tcp:10.0.2.100:65536-cmd:true",
    "guestfwd=tcp:10.0.2.100:80-nonsense",
    "guestfwd=tcp:10.0.3.100:80-cmd:true",
    "guestfwd=tcp:10.0.2.2:80-cmd:true",
    "guestfwd=tcp:10.0.2.3:80-cmd:true",
    "guestfwd=tcp:ten:80-cmd:true",
    "colour=red",
]

NO_HOST = "an address for networks and broadcasts, which no host has (RFC 1122 3.2.1.3)"
USELESS = "it would have no effect, so it is a mistake"
SHORT = "inet_aton's short forms are easily misread; there are four numbers in an address"
NO_GUEST = "nothing could answer there"
LABEL = "QEMU warns and leaves the search list out, so the mistake is found late"

WE_REFUSE = {
    "noipv4": "deprecated in QEMU; say ipv4=off",
    "ipv4=off,dhcpstart=10.0.2.15": USELESS,
    "ipv6-net=2001:db8::/64,ipv6-prefix=2001:db8::": USELESS,
    "net=10.0.2.0/255.0.255.0": "a mask with holes, which is no prefix (RFC 4632 3.1)",
    "net=10.0.2": SHORT,
    "hostfwd=tcp:127.1:0-:80": SHORT,
    "net=192.0.2.16": "the default for dhcpstart is its broadcast address, " + NO_HOST,
    "host=10.0.2.0": NO_HOST,
    "host=10.0.2.255": NO_HOST,
    "dns=10.0.2.255": NO_HOST,
    "dhcpstart=10.0.2.0": NO_HOST,
    "dhcpstart=10.0.2.255": NO_HOST,
    "ipv6-host=fec0::3": "gateway and DNS server would have one address, where QEMU's IPv4 check refuses that",
    "dnssearch=": LABEL,
    "dnssearch=a..b": LABEL,
    f"dnssearch={'x' * 64}.test": LABEL,
    "hostfwd=tcp:127.0.0.1:0-10.0.9.1:80": NO_GUEST,
    "hostfwd=tcp:127.0.0.1:0-10.0.2.255:80": NO_GUEST,
    "guestfwd=tcp:10.0.2.255:80-cmd:true": NO_HOST,
    "guestfwd=tcp:10.0.2.15:80-cmd:true": "the first guest has that address",
    "guestfwd=tcp:10.0.2.100:80-cmd:": "no command to start",
    "guestfwd=tcp:10.0.2.100:80-cmd:true,guestfwd=tcp:10.0.2.100:80-cmd:false": "the second would never serve",
    "tftp=/nonexistent": "nothing would be served",
    "guestfwd=tcp:10.0.2.100:80-null": "a character device of QEMU's",
}

WE_TAKE = {
    "hostfwd=tcp:[::1]:0-:80": "IPv6, which QEMU's grammar has not",
    "hostfwd=tcp:127.0.0.1:0-[fec0::15]:80": "IPv6, which QEMU's grammar has not",
    "hostfwd=tcp:127.0.0.1:8000-8010-:80-90": "ranges, which QEMU's grammar has not",
    "hostfwd=udp:127.0.0.1:8000-8010-:80": "ranges, which QEMU's grammar has not",
    "guestfwd=tcp:[fec0::100]:80-cmd:true": "IPv6, which QEMU's grammar has not",
    "mtu=1500": "libslirp has it, QEMU does not reach it",
    "dhcpv6=stateless": "ours",
}

OURS = [(options, True) for options in (*TAKEN, *WE_TAKE)] + [(options, False) for options in (*REFUSED, *WE_REFUSE)]
QEMUS = [(options, True) for options in (*TAKEN, *WE_REFUSE)] + [(options, False) for options in (*REFUSED, *WE_TAKE)]


@pytest.mark.parametrize(("options", "expected"), OURS)
def test_ours(options: str, *, expected: bool) -> None:
    loop = VirtualLoop()
    try:
        create(loop, f"user,{options}", id="net0", host=SimHost(loop), getrandbits=random.Random(0).getrandbits).close()
        taken = True
    except (LocalError, HostError):
        taken = False
    assert taken is expected


def test_qemus(tmp_path: Path) -> None:
    if shutil.which(QEMU) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{QEMU} is not installed")
        pytest.skip(f"{QEMU} is not installed (Debian: apt-get install qemu-system-x86)")
    commands = ['{"execute": "qmp_capabilities"}']
    for number, (options, _) in enumerate(QEMUS):
        commands += [_monitor(f"netdev_add user,{options},id=n{number}"), _monitor(f"netdev_del n{number}")]
    commands.append('{"execute": "quit"}')
    command = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    ran = subprocess.run(command, input="\n".join(commands), capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    answers = [message["return"] for message in said if "return" in message][1:]
    removed = answers[1::2]
    taken = {options: "not found" not in answer for (options, _), answer in zip(QEMUS, removed, strict=False)}
    assert taken == dict(QEMUS)


def _monitor(line: str) -> str:
    return json.dumps({"execute": "human-monitor-command", "arguments": {"command-line": line}})
