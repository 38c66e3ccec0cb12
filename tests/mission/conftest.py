"""Fixtures for the large versions of the promises: run by `make mission`, not by `make test`."""

from tests.fault.conftest import cluster

__all__ = ["cluster"]
