"""Triples by a language model on this machine."""
