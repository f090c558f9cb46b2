"""Storybook: the small illustrated world of the bundled models, with exact targets for every edit."""
