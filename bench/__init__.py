"""Benchmarks: ratios measured in one run, because the machines are shared and noisy. ``python -m bench --help``."""
