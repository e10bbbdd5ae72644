"""Frames in motion: clocks, loops, ports, links, hubs, and what can be hung on a link."""
