"""Benchmarks: each module measures one thing and gives rows; `python -m benchmarks` runs them and prints the table."""
