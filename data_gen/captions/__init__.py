"""Captions, read or drawn."""
