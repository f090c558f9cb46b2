"""Training: fine-tuning an editor on pairs, and making the bundled models (storybook)."""
