"""Evaluation: an editor beside baselines and bounds, sample by sample, and what it came to as a page and as JSON."""
