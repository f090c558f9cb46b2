"""Read and clean captions, or generate them from the storybook world."""
