"""Batten's version, as the host knows it: what a backup says of who made it. ``batten.__version__`` is the same."""

VERSION = "0.1.0"
