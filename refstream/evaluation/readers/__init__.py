"""Readers of benchmarks: one file per official format."""
