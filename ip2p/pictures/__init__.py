"""Picture files in and out, and pictures as tensors."""
