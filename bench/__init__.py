"""Benchmarks of the main job; see README.md."""
