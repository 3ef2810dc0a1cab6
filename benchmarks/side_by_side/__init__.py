"""The commands of benchmarks/peers.py, one module each. A module has run(options), which yields its tables."""
