"""Model weights in and out, and what is done to the networks."""
