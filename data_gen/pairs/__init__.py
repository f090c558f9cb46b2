"""Draw, score, filter and pack pairs of pictures."""
