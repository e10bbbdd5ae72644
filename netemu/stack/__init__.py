"""A sans-IO TCP/IP endpoint and its parts."""
