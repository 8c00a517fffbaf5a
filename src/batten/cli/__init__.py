"""The command line."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run one verb and return the exit code."""
    print("batten", argv)
    return 0
