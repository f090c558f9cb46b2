"""Programs that train and export the bundled storybook models."""
