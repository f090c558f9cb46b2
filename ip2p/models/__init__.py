"""Load, save and modify models."""
