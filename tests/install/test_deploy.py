"""What ships for containers. Sites of proxies: `tests/security/test_web_server.py` and `test_single_sign_on.py`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from config.settings import Settings
from gateway.cli import VERSION
from gateway.cli.event_loop import SHUTDOWN_TIMEOUT
from gateway.signals.http_app import PATHS
from tests.install.service import ROOT

DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with their arguments on one line."""
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def of(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def test_the_image_is_built_from_files_that_the_build_is_given() -> None:
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for rest in of("COPY") if not rest.startswith("--from") for source in shlex.split(rest)[:-1]}
    assert copied == given
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_the_versions_that_are_tested_and_can_use_every_database_and_bucket() -> None:
    usual, image, tested = (_pins(f"requirements{which}.txt") for which in ("", "-image", "-dev"))
    assert usual < image <= tested
    assert {line.partition("==")[0] for line in image - usual} == {"psycopg", "psycopg-binary", "obstore"}


def _pins(file: str) -> set[str]:
    return {line.split()[0] for line in (ROOT / file).read_text().splitlines() if "==" in line}


def test_the_image_runs_as_a_user_without_rights_and_writes_to_its_volume_only() -> None:
    assert of("USER") == ["10001:10001"]
    assert (of("WORKDIR")[-1], json.loads(of("VOLUME")[0])) == ("/data", ["/data"])
    assert "INTERJECT_HOME=/data" in of("ENV")[-1]


def test_the_image_starts_the_gateway_and_asks_whether_it_lives() -> None:
    assert (json.loads(of("ENTRYPOINT")[0]), json.loads(of("CMD")[0])) == (["interject"], ["run"])
    [check] = of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    [(port, path)] = re.findall(r"127\.0\.0\.1:(\d+)(/\w+)", command[-1])
    assert (int(port), path in PATHS) == (Settings().web.port, True)
    compile(command[-1], "healthcheck", "exec")
    assert of("EXPOSE") == [port]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint")
def test_the_dockerfile_is_without_findings() -> None:
    done = subprocess.run(["hadolint", str(DEPLOY / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_drains_and_takes_rights_away() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["interject"]
    assert service["image"] == f"interject:{VERSION}"
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings().agent.shutdown_grace + SHUTDOWN_TIMEOUT
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_compose_with_the_sandbox_changes_only_what_the_sandbox_needs() -> None:
    services = yaml.safe_load((DEPLOY / "compose.sandbox.yaml").read_text())["services"]
    assert {name: list(section) for name, section in services.items()} == {"interject": ["security_opt"]}
    assert "no-new-privileges:true" in services["interject"]["security_opt"]
