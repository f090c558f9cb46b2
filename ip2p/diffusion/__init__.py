"""The mathematics of diffusion: guidance, sampling, and caches that make both faster."""
