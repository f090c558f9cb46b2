"""Data sets of pairs from others and for others."""
