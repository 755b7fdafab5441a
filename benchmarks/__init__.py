"""Measurements of the library: `python -m benchmarks.<topic>.<name>` from the root of the repository. See README.md."""
