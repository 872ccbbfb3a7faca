"""What ships for several workers: the compose file with PostgreSQL, and the example for Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load
from config.settings import Settings
from gateway.cli import VERSION
from gateway.cli.event_loop import SHUTDOWN_TIMEOUT
from gateway.signals.http_app import PATHS
from tests.install.service import ROOT
from tests.install.test_deploy import of

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
USER = 10001


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.postgres.yaml").read_text())


def manifests() -> dict[str, Any]:
    """By kind: the example has one of each."""
    found = [each for file in KUBERNETES.glob("*.yaml") for each in yaml.safe_load_all(file.read_text())]
    by_kind = {each["kind"]: each for each in found}
    assert len(by_kind) == len(found)
    return by_kind


def pod() -> Any:
    return manifests()["Deployment"]["spec"]["template"]


def container() -> Any:
    (found,) = pod()["spec"]["containers"]
    return found


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_worker_of_compose_has_no_more_rights_than_the_single_gateway_and_time_to_hand_over(name: str) -> None:
    alone = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["interject"]
    worker = compose()["services"][name]
    for same in ("build", "image", "restart", "read_only", "cap_drop", "security_opt", "pids_limit", "env_file"):
        assert worker[same] == alone[same], same
    assert int(worker["stop_grace_period"].removesuffix("s")) > Settings().agent.shutdown_grace + SHUTDOWN_TIMEOUT
    assert worker["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert all(port.startswith("127.0.0.1:") for port in worker["ports"])


def test_the_workers_of_compose_share_a_database_and_files_and_nothing_else() -> None:
    whole = compose()
    services = whole["services"]
    one, two = services["one"], services["two"]
    assert one["environment"] == two["environment"]
    volumes = [{each.partition(":")[0]: each.partition(":")[2] for each in worker["volumes"]} for worker in (one, two)]
    shared = set(volumes[0].items()) & set(volumes[1].items())
    assert {name for name, _ in shared} == {"shared", "./interject.toml"}
    assert volumes[0]["one"] == volumes[1]["two"] == "/data"
    assert not set(one["ports"]) & set(two["ports"])
    assert set(whole["volumes"]) == {"one", "two", "shared", "database"}
    database = services["postgres"]
    assert "ports" not in database, "only the workers reach it"
    assert database["environment"]["POSTGRES_PASSWORD"].startswith("${DATABASE_PASSWORD:?"), "there is no default"
    assert database["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_the_settings_of_compose_are_valid_and_name_what_is_shared(tmp_path: Path) -> None:
    environ = {
        name: value.replace("${DATABASE_PASSWORD:?is missing in deploy/interject.env}", "secret")
        for name, value in compose()["services"]["one"]["environment"].items()
        if name != "INTERJECT_CONFIG"
    }
    (tmp_path / "interject.toml").write_text("")
    settings = load(tmp_path / "interject.toml", environ, tmp_path / "home").settings
    assert settings.store.url == "postgresql://interject:secret@postgres/interject"
    assert (settings.media.url, str(settings.agent.workspace)) == ("file:///shared/media", "/shared/workspace")


def test_the_settings_of_kubernetes_are_valid_and_fit_its_volumes(tmp_path: Path) -> None:
    found = manifests()
    file = tmp_path / "interject.toml"
    file.write_text(found["ConfigMap"]["data"]["interject.toml"])
    settings = load(file, found["Secret"]["stringData"], tmp_path / "home").settings
    assert settings.store.url.startswith("postgresql://")
    mounts = {each["mountPath"]: each for each in container()["volumeMounts"]}
    assert settings.media.url == "file:///shared/media"
    assert settings.agent.workspace.is_relative_to("/shared")
    assert {"/data", "/shared", "/etc/interject"} <= set(mounts)
    (variable,) = container()["env"]
    assert variable == {"name": "INTERJECT_CONFIG", "value": "/etc/interject/interject.toml"}
    # Everything beside the time that turns have, and a margin.
    pause = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod()["spec"]["terminationGracePeriodSeconds"] > settings.agent.shutdown_grace + SHUTDOWN_TIMEOUT + pause


def test_kubernetes_shares_what_workers_share_and_has_no_secret_outside_the_secret() -> None:
    found = manifests()
    volumes = {each["name"]: each for each in pod()["spec"]["volumes"]}
    claim = found["PersistentVolumeClaim"]
    assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "emptyDir" in volumes["home"], "a worker's home is its own"
    assert {each["name"] for each in container()["volumeMounts"]} == set(volumes)
    (source,) = container()["envFrom"]
    assert source["secretRef"]["name"] == found["Secret"]["metadata"]["name"]
    assert "postgresql://" not in found["ConfigMap"]["data"]["interject.toml"]


def test_a_rollout_of_kubernetes_never_has_fewer_workers_and_asks_them_how_they_are() -> None:
    found = manifests()
    deployment = found["Deployment"]["spec"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] < deployment["replicas"]
    labels = pod()["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
    ):
        assert selector == labels
    (port,) = container()["ports"]
    (served,) = found["Service"]["spec"]["ports"]
    assert (port["containerPort"], served["targetPort"]) == (Settings().web.port, port["name"])
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {each["path"] for each in probes.values()} <= set(PATHS)
    assert {name: each["path"] for name, each in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {each["port"] for each in probes.values()} == {port["name"]}
    startup = container()["startupProbe"]
    unit = (DEPLOY / "systemd" / "interject.service").read_text()
    assert startup["periodSeconds"] * startup["failureThreshold"] >= int(unit.split("TimeoutStartSec=")[1].split()[0])


def test_a_pod_has_no_rights_and_is_the_user_of_the_image() -> None:
    whole, own = pod()["spec"]["securityContext"], container()["securityContext"]
    assert (whole["runAsNonRoot"], whole["runAsUser"], whole["fsGroup"]) == (True, USER, USER)
    assert of("USER") == [f"{USER}:{USER}"]
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["spec"]["automountServiceAccountToken"] is False
    assert container()["image"].endswith(f"/interject:{VERSION}")
