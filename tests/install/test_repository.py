"""The files by which the repository is tested, kept up to date and reported to."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests.install.service import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
TARGETS = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_workflow_tests_every_python_on_linux_and_macos() -> None:
    matrix = read(".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix == {"os": ["ubuntu-latest", "macos-latest"], "python": PYTHONS}


def test_the_workflow_runs_what_the_makefile_has() -> None:
    jobs = read(".github/workflows/test.yml")["jobs"].values()
    commands = "\n".join(step.get("run", "") for job in jobs for step in job["steps"])
    called = set(re.findall(r"make ([a-z]+)", commands))
    assert {"check", "test", "dist"} <= called <= TARGETS
    assert "docker build --file deploy/Dockerfile" in commands


def test_dependencies_of_every_kind_are_kept_up_to_date() -> None:
    updates = {each["package-ecosystem"]: each["directory"] for each in read(".github/dependabot.yml")["updates"]}
    assert updates == {"pip": "/", "github-actions": "/", "docker": "/deploy"}
    assert all((ROOT / folder.lstrip("/")).is_dir() for folder in updates.values())


def test_whoever_reports_a_fault_is_asked_what_doctor_says() -> None:
    form = read(".github/ISSUE_TEMPLATE/bug.yml")
    [asked] = [field for field in form["body"] if "interject doctor --json" in str(field)]
    assert asked["validations"] == {"required": True}


def test_a_commit_is_checked_as_make_check_does() -> None:
    recipe = re.findall(
        r"(?m)^\t\$\(BIN\)/(.+)$", (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    )
    checks = {line.replace("format --check .", "format").replace("check .", "check") for line in recipe}
    [source] = read(".pre-commit-config.yaml")["repos"]
    hooks = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in source["hooks"]}
    assert hooks == checks
