"""Virtqueues and the devices behind them, as the device side sees them (VIRTIO 1.2)."""
