"""Real programs as parts: found, started, driven and stopped."""
