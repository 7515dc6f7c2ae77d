"""Measurements on this machine: `griddle bench path`."""
