"""Triples by rules."""
