"""Measurements: `make bench` prints tables and writes bench/results/*.json. See docs/performance.md."""
