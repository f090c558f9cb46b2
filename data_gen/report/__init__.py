"""What a build came to: counts, pages, the card."""
