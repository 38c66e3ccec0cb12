"""Consensus: the only package that knows pysyncobj. Everything above talks to port.py."""
