"""The version of ip2p."""

__version__ = "0.1.0"
