"""Guests: what a test drives. One module a kind, one protocol for all."""
