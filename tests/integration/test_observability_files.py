"""Rules and dashboard name only metrics that a node exports; every alert has a section in the runbook."""

import json
import random
import re
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import yaml

from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cache_pb2
from replcache.server.node_server import Server
from tests.helpers.raft_cluster import RaftCluster
from tests.helpers.serving import stubs
from tests.tidy.sources import ROOT

RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
# What Prometheus itself makes.
NOT_OURS = {"up"}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def metric_names(expression: str) -> set[str]:
    """The metrics in a PromQL expression: identifiers that are no function, keyword or label."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\b", " ", text)
    found = re.findall(r"(?<![\w.$])([a-zA-Z_:][\w:]*)(?!\s*\(|\w)", text)
    return set(found) - WORDS


def label_names(expression: str) -> set[str]:
    found = {
        name for part in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)\s*[=!]", part)
    }
    for part in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression):
        found |= {name.strip() for name in part.split(",") if name.strip()}
    return found


def dashboard_expressions() -> list[str]:
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found += [one["expr"] for one in DASHBOARD["annotations"]["list"]]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found.append(re.sub(r"label_values\((\w+), \w+\)", r"\1", variable["definition"]))
    return found


async def exported(directory: Path) -> tuple[set[str], set[str]]:
    """(sample names, label names) of /metrics of a live node that was used a little."""
    raft = RaftCluster(directory, ("n1", "n2", "n3"))
    await raft.start()
    try:
        node = await raft.wait_leader()
        config = ServerConfig(grpc_listen="127.0.0.1:0", http_listen="127.0.0.1:0", stop_grace_s=0.0)
        server = Server(config, node, SystemClock(), Metrics(), random.Random(1))
        await server.start()
        try:
            async with grpc.aio.insecure_channel(server.grpc_address) as channel:
                cache: Any = stubs(channel)[0]
                await cache.Set(cache_pb2.SetRequest(key=b"key", value=b"value"))
                await cache.Get(cache_pb2.GetRequest(key=b"key"))
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://{server.http_address}/metrics") as answer:
                    text = await answer.text()
        finally:
            await server.stop()
    finally:
        await raft.stop()
    # A family without samples yet (nothing was evicted) still is exported.
    names = set(re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", text, flags=re.M))
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.M):
        names.add(name if kind != "counter" or name.endswith("_total") else f"{name}_total")
    labels = set(re.findall(r'[{,](\w+)="', text))
    return names, labels


async def test_every_query_names_an_exported_metric(tmp_path: Path) -> None:
    names, labels = await exported(tmp_path)
    assert len(names) > 40
    expressions = {f"alert {rule['alert']}": rule["expr"] for rule in ALERTS}
    expressions |= {f"dashboard {number}": text for number, text in enumerate(dashboard_expressions())}
    assert len(expressions) > 40
    for where, text in expressions.items():
        found = metric_names(text)
        assert found, (where, text)
        assert found <= names | NOT_OURS, (where, sorted(found - names))
        # job and instance come from the scrape; `reason` only with the first eviction.
        assert label_names(text) <= labels | {"job", "instance", "reason"}, (
            where,
            label_names(text) - labels,
        )


def test_metric_names_are_found_in_promql() -> None:
    text = 'sum by (job) (rate(a_total{x="b_total"}[5m])) / on (job) group_left () max(c) > 0.01 and d_bucket'
    assert metric_names(text) == {"a_total", "c", "d_bucket"}
    assert label_names(text) == {"job", "x"}


def test_every_alert_has_its_section_in_the_runbook_and_the_other_way_round() -> None:
    runbook = (ROOT / "deploy/RUNBOOK.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (Replcache\w+)\n(.*?)(?=^##|\Z)", runbook, flags=re.S | re.M))
    assert {rule["alert"] for rule in ALERTS} == set(sections)
    assert all(len(text.split()) > 15 for text in sections.values())
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_dashboard_is_of_one_piece() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
