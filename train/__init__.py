"""Training: the editor from pairs (finetune), and the bundled storybook models (base)."""
