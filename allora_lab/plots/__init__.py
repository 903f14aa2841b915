"""Figures from records and arrays; each function returns a Figure and shows nothing."""
