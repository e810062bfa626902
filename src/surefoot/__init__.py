"""Surefoot chooses the settings of SGD by measurement and shows its evidence."""

__version__ = "0.1.0"
