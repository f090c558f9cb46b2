"""Triples into pairs of pictures, scored, filtered and packed."""
