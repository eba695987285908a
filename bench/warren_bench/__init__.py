"""Benchmarks, one module each; `frame` is what they share."""
