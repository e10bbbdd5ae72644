"""The vhost-user protocol: a virtio device in another process than its driver's machine."""
