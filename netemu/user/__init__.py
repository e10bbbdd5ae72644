"""The user-mode network: NAT between a guest and a host, and its services."""
