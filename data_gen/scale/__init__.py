"""Spread the making of pairs over processes and machines."""
