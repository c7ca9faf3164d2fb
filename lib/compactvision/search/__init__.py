"""Searching networks: what its papers share, and the papers."""
