"""Training an editor from pairs (finetune), and the bundled models (storybook)."""
