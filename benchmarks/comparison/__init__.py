"""The commands of benchmarks/peers.py, one module each, with a function run(options) that yields tables."""
