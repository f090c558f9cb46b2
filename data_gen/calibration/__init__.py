"""Thresholds of the filter for a wanted precision, from labelled pairs."""
