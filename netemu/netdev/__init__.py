"""QEMU's netdev types, one module each, and the option grammar."""
