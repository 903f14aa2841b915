"""Adapters: low-rank updates of frozen linear layers, one method a file."""
