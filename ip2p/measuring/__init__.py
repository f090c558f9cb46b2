"""How good pictures are: CLIP scores, evaluation on held-out scenes, tables."""
