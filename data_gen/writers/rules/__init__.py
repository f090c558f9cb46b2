"""Write triples by rules."""
