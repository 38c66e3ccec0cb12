"""Reports between nodes, and what is made of two of them."""

import json
from dataclasses import replace

import pytest

from replcache.observability.metrics import LATENCY_BUCKETS_S, Metrics
from replcache.server.status.rates import quantile, rates_between
from replcache.server.status.report import Report, reachable_address, show

BUCKETS = [0] * (len(LATENCY_BUCKETS_S) + 1)


def report(**fields: object) -> Report:
    return replace(Report(node="n1", uptime_s=10.0), **fields)  # type: ignore[arg-type]


def test_a_report_survives_the_wire() -> None:
    one = report(role="leader", hits=3, read_buckets=[1, 2], hot_reads=[["key", 3, 0]])
    assert Report.decode(one.encode()) == one


def test_reports_of_other_versions_are_understood_and_nonsense_is_not() -> None:
    fields = {**json.loads(report(hits=3).encode()), "from_the_future": 1}
    del fields["misses"]
    assert Report.decode(json.dumps(fields).encode()) == report(hits=3)
    for bad in (b"", b"\xff", b"[]", b'{"hits": "3"}', b'{"hot_reads": 1}'):
        assert Report.decode(bad) is None


def test_rates_are_sums_over_the_nodes_without_those_that_started_anew() -> None:
    before = {
        "n1": report(keys_read=100, hits=90, misses=10, keys_written=5),
        "n2": report(keys_read=1000, hits=1000, uptime_s=500.0),
    }
    now = {
        "n1": report(keys_read=300, hits=240, misses=60, keys_written=15, unavailable=4, uptime_s=12.0),
        "n2": report(keys_read=7, hits=7, uptime_s=0.5),
        "n3": report(keys_read=9999, hits=9999),
    }
    rates = rates_between(before, now, 2.0)
    assert (rates.reads, rates.writes, rates.unavailable, rates.hit_rate) == (100.0, 5.0, 2.0, 0.75)
    assert rates.read_p99 is None


def test_quantiles_interpolate_within_a_bucket() -> None:
    buckets = [0, 0, 0, 100, *BUCKETS[4:]]
    assert quantile(buckets, 0.5) == pytest.approx((0.0005 + 0.001) / 2)
    assert quantile(BUCKETS, 0.5) is None
    assert quantile([*BUCKETS[:-1], 1], 0.99) == LATENCY_BUCKETS_S[-1]


def test_totals_tell_reads_from_writes_and_leave_other_services_out() -> None:
    metrics = Metrics()
    metrics.request_done("Cache.Get", "linearizable", "ok", 0.002)
    metrics.request_done("Cache.Pipeline", "one", "ok", 0.0002)
    metrics.request_done("Cache.Set", "none", "ok", 0.02)
    metrics.request_done("Cache.Set", "none", "NO_LEADER", 0.02)
    metrics.request_done("Cache.Set", "none", "CONDITION_FAILED", 0.02)
    metrics.request_done("Lock.Acquire", "none", "DEADLINE_EXCEEDED", 9.0)
    totals = metrics.totals()
    assert (totals.reads, totals.writes, totals.unavailable) == (2, 3, 1)
    assert sum(totals.read_buckets) == 2


def test_names_are_shown_for_the_eye() -> None:
    assert show(b"user:7") == "user:7"
    assert show(b"\xff\x00<b>") == "\\xff\\x00<b>"
    assert len(show(b"k" * 1000)) == 80


def test_a_page_that_listens_everywhere_is_reached_where_clients_go() -> None:
    assert reachable_address("0.0.0.0", 7421, "db1.example:7401") == "db1.example:7421"
    assert reachable_address("::", 7421, "[fd00::1]:7401") == "[fd00::1]:7421"
    assert reachable_address("127.0.0.1", 7421, "db1:7401") == "127.0.0.1:7421"
