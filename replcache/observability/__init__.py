"""Metrics and logs: what an operator can see of a node."""
