"""The programs that make the bundled models of the storybook world."""
