"""Results of a build: counts, HTML pages, and the data-set card."""
