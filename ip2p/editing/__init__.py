"""What users call: editing and drawing pictures, one or many."""
