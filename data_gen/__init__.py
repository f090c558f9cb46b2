"""Data generation: captions, triples, pairs by Prompt-to-Prompt, CLIP filter, packed data set."""
