"""Measure pictures: CLIP scores, evaluation on held-out scenes, tables."""
