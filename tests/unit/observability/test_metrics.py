"""The plain-number metrics come out as Prometheus wants them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from replcache.observability.metrics import LATENCY_BUCKETS_S, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    text = metrics.exposition().decode()
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_operation_level_and_outcome() -> None:
    metrics = Metrics()
    for outcome in ("ok", "ok", "NO_LEADER"):
        metrics.request_done("Cache.Get", "one", outcome, 0.001)
    metrics.request_done("Cache.Set", "none", "ok", 0.002)
    found = samples(metrics)
    name, where = "replcache_requests_total", ("level=one", "operation=Cache.Get")
    assert found[name, where[0], where[1], "outcome=ok"] == 2
    assert found[name, where[0], where[1], "outcome=NO_LEADER"] == 1
    assert found["replcache_request_seconds_count", "level=one", "operation=Cache.Get"] == 3
    assert found["replcache_request_seconds_sum", "level=none", "operation=Cache.Set"] == 0.002


@pytest.mark.parametrize("bound", LATENCY_BUCKETS_S)
def test_value_on_a_bound_belongs_to_its_bucket(bound: float) -> None:
    """Prometheus's `le` means less or equal, and buckets are cumulated."""
    metrics = Metrics()
    metrics.request_done("x", "none", "ok", bound)
    metrics.request_done("x", "none", "ok", bound * 1.0001)
    found = samples(metrics)

    def bucket(le: float | str) -> float:
        text = le if isinstance(le, str) else f"{le}"
        return found["replcache_request_seconds_bucket", f"le={text}", "level=none", "operation=x"]

    assert bucket(bound) == 1
    assert bucket("+Inf") == 2
    smaller = [one for one in LATENCY_BUCKETS_S if one < bound]
    assert all(bucket(one) == 0 for one in smaller)


def test_gauges_and_counters_start_at_zero() -> None:
    found = samples(Metrics())
    for name in ("hits_total", "misses_total", "keys_written_total", "proposals_in_flight", "lock_waits"):
        assert found[(f"replcache_{name}",)] == 0
    assert found[("replcache_loop_lag_seconds_count",)] == 0


def test_two_nodes_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.hits += 5
    assert samples(second)[("replcache_hits_total",)] == 0
