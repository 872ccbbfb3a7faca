"""[store] url: databases on a server, and their passwords, which nobody is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.fingerprint import fingerprints
from config.settings import every_secret
from config.shown import shown
from gateway.cli.logs import secrets_in
from gateway.store.urls import database_url
from tests.config.conftest import Operator

SERVER = "postgresql://interject:k3y-of-db@db.example.com:5433/chats"


def store(url: str) -> str:
    return f'[store]\nurl = "{url}"\n'


@pytest.mark.parametrize(
    "url",
    [
        SERVER,
        "postgres://db/chats",
        "postgresql://ann%40corp:p%40ss@[::1]:5432/chats?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem",
        "postgresql:///chats?host=/var/run/postgresql",
        "postgresql:///?service=interject",
    ],
)
def test_a_database_on_a_server_is_taken_as_it_is_written(operator: Operator, url: str) -> None:
    settings = operator.settings(store(url))
    assert settings.store.url == url
    assert settings.store.file is None
    assert database_url(settings.store.url).get_backend_name() == "postgresql"


@pytest.mark.parametrize("url", ["postgresql://u:p@ss@host/db", "postgresql://host:port/db", "postgresql://host/a/b"])
def test_a_url_that_would_be_read_differently_is_refused_without_its_words(operator: Operator, url: str) -> None:
    [line] = operator.refused(store(url))
    assert "expected a URL like postgresql://user:password@host:5432/database" in line
    assert "%40" in line
    assert "ss@host" not in line


@pytest.mark.parametrize("password", ["plain-secret", "a@b/c?d#e%41:f ", "ü${x}"])
def test_a_password_in_a_variable_may_have_any_characters(operator: Operator, password: str) -> None:
    url = "postgresql://interject:${DATABASE_PASSWORD}@${HOST}/chats?sslrootcert=${CERT}"
    found = operator.settings(store(url), DATABASE_PASSWORD=password, HOST="db:5433", CERT="/etc/db.pem").store.url
    parsed = database_url(found)
    assert (parsed.password, parsed.host, parsed.port) == (password, "db", 5433)
    assert parsed.query["sslrootcert"] == "/etc/db.pem"


def test_a_url_in_a_variable_is_taken_as_it_is(operator: Operator) -> None:
    assert operator.settings(store("${DATABASE_URL}"), DATABASE_URL=SERVER).store.url == SERVER


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        (SERVER, {"k3y-of-db"}),
        ("postgresql://u:p%40ss-word@host/db", {"p%40ss-word", "p@ss-word"}),
        ("postgresql://host/db?password=in-the-query&sslpassword=of-the-key", {"in-the-query", "of-the-key"}),
    ],
)
def test_its_password_is_a_secret_in_logs_and_in_what_is_shown(operator: Operator, url: str, secrets: set[str]) -> None:
    configuration = operator.start(store(url))
    assert secrets <= secrets_in(configuration)
    assert secrets <= {secret.get_secret_value() for secret in every_secret(configuration.settings)}
    [setting] = [setting for setting in shown(configuration.settings) if setting.key == "store.url"]
    assert "[hidden]" in setting.value
    assert "host" in setting.value or "db.example.com" in setting.value
    for secret in secrets:
        assert secret not in setting.value


def test_a_secret_in_the_address_of_a_model_server_is_not_shown_either(operator: Operator) -> None:
    settings = operator.settings(
        '[models.own]\ntype = "openai"\napi_key = "k"\nbase_url = "https://u:pass-word@llm.example.com/v1"\n'
    )
    [setting] = [setting for setting in shown(settings) if setting.key == "models.own.base_url"]
    assert setting.value == "https://u:[hidden]@llm.example.com/v1"


def test_a_changed_password_is_a_changed_setting(operator: Operator) -> None:
    before, after = (
        fingerprints(operator.settings(store(SERVER.replace("k3y", key))), "salt")["store.url"]
        for key in ("k3y", "new")
    )
    assert before != after
    assert "k3y" not in before


def test_other_programs_never_get_the_password_of_the_database(operator: Operator) -> None:
    shell = '[tools.shell]\nenvironment = ["PGPASSWORD"]\n'
    [line] = operator.refused(store("postgresql://host/db") + shell)
    assert "PGPASSWORD holds a setting of the gateway" in line
    operator.settings(shell)


def test_the_files_with_passwords_and_keys_are_known(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGPASSFILE", "/run/secrets/pgpass")
    files = set(operator.settings(store("postgresql://host/db?sslkey=/etc/own.key")).store.secret_files)
    assert files == {
        tmp_path / ".pgpass",
        tmp_path / ".postgresql",
        Path("/run/secrets/pgpass"),
        Path("/etc/own.key"),
    }
    assert list(operator.settings().store.secret_files) == []
