"""Benchmarks: what each stage takes, against what the same machine could do at best."""
