"""Edit and draw pictures, one or many."""
