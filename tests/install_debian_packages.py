"""Installs the Debian packages that the real-kernel tests need, where that is possible: as root, on Debian.

Elsewhere it says so and succeeds: those tests then name what is missing. With CI=true a missing package fails them.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "busybox-static": "/bin/busybox",  # user land of the initramfs; udhcpc for namespaces
    "user-mode-linux": "/usr/bin/linux.uml",  # a real kernel without root or KVM
    "libslirp0": "/usr/lib/x86_64-linux-gnu/libslirp.so.0",  # the implementation we compare with
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",  # a real kernel on any NIC model; says which options it takes
    "zstd": "/usr/bin/zstd",  # unpacks Debian 13's kernel for it
    "tshark": "/usr/bin/tshark",  # reads our captures
    "slirp4netns": "/usr/bin/slirp4netns",  # `netemu bench user` compares with it
    "passt": "/usr/bin/pasta",  # and with it
    "samba": "/usr/sbin/smbd",  # what smb= starts
    "smbclient": "/usr/bin/smbclient",  # and who judges it
    "bc": "/usr/bin/bc",  # for the kernel of virtual time, as are the next ones
    "bison": "/usr/bin/bison",
    "flex": "/usr/bin/flex",
    "xz-utils": "/usr/bin/xz",
    "mmdebstrap": "/usr/bin/mmdebstrap",  # unpacks the peers of another release
    "liblwip-dev": "/usr/include/lwip/lwipopts.h",  # the stack of examples/lwip
    "gcc": "/usr/bin/gcc",  # builds it, and the kernel
    "make": "/usr/bin/make",
    "libc6-dev": "/usr/include/stdio.h",
    "iproute2": "/sbin/ip",  # what a guest's shell has
    # clients that judge the user network
    "bind9-dnsutils": "/usr/bin/dig",
    "curl": "/usr/bin/curl",
    "dhcpcd-base": "/sbin/dhcpcd",
    "iputils-ping": "/bin/ping",
    "isc-dhcp-client": "/sbin/dhclient",
    "ndisc6": "/usr/bin/ndisc6",
    "traceroute": "/usr/sbin/traceroute",
    # a machine that boots from its network card
    "ipxe-qemu": "/usr/lib/ipxe/qemu",
}


def main() -> int:
    missing = [package for package, path in PACKAGES.items() if not os.path.exists(path)]
    if not missing:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed, and this is not root on Debian: {', '.join(missing)}")
        return 0
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "-q", "update"], check=True, env=environment)
    return subprocess.run(
        ["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing], check=False, env=environment
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
