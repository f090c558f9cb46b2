"""Captions into triples, checked."""
