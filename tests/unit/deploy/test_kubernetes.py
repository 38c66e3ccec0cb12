"""The Kubernetes files: valid by the schemas of the API, accepted as settings, and of one piece."""

import configparser
import re
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from replcache.config import ServerConfig, load_config
from tests.tidy.sources import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
# What every cluster that is still maintained understands.
VERSIONS = ("1.30", "1.33")
DOCUMENTS = [
    (path.name, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    if document is not None
]


def of_kind(kind: str, name: str = "replcache") -> Any:
    (found,) = [d for _, d in DOCUMENTS if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def pod() -> Any:
    return of_kind("StatefulSet")["spec"]["template"]


def settings(pod_name: str) -> ServerConfig:
    environment = {}
    for entry in pod()["spec"]["containers"][0]["env"]:
        if "value" in entry:
            environment[entry["name"]] = entry["value"].replace("$(POD_NAME)", pod_name)
    return load_config(None, environment).config


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("file", "document"),
    DOCUMENTS,
    ids=[f"{name}-{d['kind']}-{d['metadata']['name']}" for name, d in DOCUMENTS],
)
def test_documents_are_valid_by_the_schemas(file: str, document: Any, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_document_is_refused() -> None:
    wrong = {**of_kind("StatefulSet"), "spec": {**of_kind("StatefulSet")["spec"], "replica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_every_pod_has_settings_that_a_node_takes() -> None:
    names = [f"replcache-{number}" for number in range(of_kind("StatefulSet")["spec"]["replicas"])]
    for name in names:
        config = settings(name)
        assert config.name == name
        assert [member.name for member in config.members] == names
        (me,) = [member for member in config.members if member.name == name]
        assert (me.peer_address, me.client_address) == (config.peer_advertised, config.grpc_advertised)
        mounts = {m["mountPath"]: m["name"] for m in pod()["spec"]["containers"][0]["volumeMounts"]}
        assert any(config.data_dir.is_relative_to(path) for path, what in mounts.items() if what == "data")
        for path in (config.tls_cert, config.peer_tls_key, config.peer_tls_ca):
            assert path is not None
            assert mounts[str(path.parent)] == "certs"


def test_ports_names_and_labels_fit_together() -> None:
    config = settings("replcache-0")
    container = pod()["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {"grpc": config.grpc_listen, "peer": config.peer_listen, "http": config.http_listen}
    assert ports == {name: int(str(address).rpartition(":")[2]) for name, address in listens.items()}
    labels = pod()["metadata"]["labels"]
    stateful = of_kind("StatefulSet")["spec"]
    peers, policy, budget = (
        of_kind("Service", "replcache-peers")["spec"],
        of_kind("NetworkPolicy")["spec"],
        of_kind("PodDisruptionBudget")["spec"],
    )
    assert stateful["serviceName"] == "replcache-peers"
    assert peers["clusterIP"] == "None"
    assert peers["publishNotReadyAddresses"] is True
    for selector in (stateful["selector"], policy["podSelector"], budget["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert peers["selector"].items() <= labels.items()
    assert budget["maxUnavailable"] <= (stateful["replicas"] - 1) // 2
    (rule,) = pod()["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"]["matchLabels"].items() <= labels.items()
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    assert pod()["spec"]["terminationGracePeriodSeconds"] > config.stop_grace_s
    assert {port for rule in policy["ingress"] for p in rule["ports"] for port in [p["port"]]} == set(ports)
    job = of_kind("CronJob", "replcache-backup")["spec"]["jobTemplate"]["spec"]["template"]
    client_rule = policy["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
    assert client_rule.items() <= job["metadata"]["labels"].items()
    image = job["spec"]["containers"][0]["image"]
    assert image == container["image"]


def test_no_pod_runs_as_root_or_may_become_it() -> None:
    job = of_kind("CronJob", "replcache-backup")["spec"]["jobTemplate"]["spec"]["template"]
    for template in (pod(), job):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_backup_jobs_save_and_forget_alike() -> None:
    job = of_kind("CronJob", "replcache-backup")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    unit.read(ROOT / "deploy/systemd/replcache-backup.service")
    on_machines = re.fullmatch(r"/bin/sh -ec '(.*)'", unit["Service"]["ExecStart"])
    assert on_machines is not None
    for text in (job["containers"][0]["args"][0], on_machines[1].replace("%%", "%")):
        assert "replcache snapshot save" in text
        assert subprocess.run(["sh", "-n", "-c", text], check=False).returncode == 0
    for text in (job["containers"][0]["args"][0], unit["Service"]["ExecStartPost"]):
        assert '-name "*.rcsnap" -mtime +14 -delete' in text
