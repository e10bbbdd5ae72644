"""Explanations of `assert lease == other`: which fields differ. Nothing of netemu is imported for it."""

from __future__ import annotations

import sys
from dataclasses import fields

__all__ = ["explain"]


def explain(op: str, left: object, right: object) -> list[str] | None:
    """The lines of pytest's explanation, or None where pytest's own is the better."""
    module = sys.modules.get("netemu.stack.lease")
    if module is None or op != "==":
        return None
    lease = module.Lease
    if not (isinstance(left, lease) and isinstance(right, lease)):
        return None
    pairs = [(field.name, getattr(left, field.name), getattr(right, field.name)) for field in fields(left) if field.compare]
    different = [f"  {name}: {_text(mine)} != {_text(theirs)}" for name, mine, theirs in pairs if mine != theirs]
    return [f"leases of {left.address} and {right.address} differ in {len(different)} of {len(pairs)} fields", *different]


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
