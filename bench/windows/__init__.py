"""Benchmarks of windows."""
