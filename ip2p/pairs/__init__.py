"""Pairs of pictures as people keep them: found, read, and checked by their headers."""
