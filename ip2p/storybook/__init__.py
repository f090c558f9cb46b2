"""Storybook: the small illustrated world that the bundled models know, with exact targets for every edit."""
