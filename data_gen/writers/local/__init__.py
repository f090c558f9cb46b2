"""Write triples by a local language model."""
