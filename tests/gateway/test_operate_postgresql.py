"""The operators' commands on a PostgreSQL database that a running gateway uses."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from gateway.cli.doctor.server import check_server
from gateway.cli.main import main
from gateway.store import open_store
from gateway.store.schema import REVISION
from tests.gateway.notes import begin, first_words, tell
from tests.gateway.stage import gateway
from tests.gateway.test_from_settings import KEY, answering, person
from tests.gateway.test_operate import Ended
from tests.gateway.test_store_copy import made, server
from tests.servers.models import ModelServer, Say
from tests.servers.postgres import Postgres

__all__ = ["made", "server"]


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    return tmp_path


def settings(folder: Path, url: str) -> None:
    (folder / "interject.toml").write_text(f'[store]\nurl = "{url}"\n[web]\nport = 0\n')
    (folder / "interject.toml").chmod(0o600)


async def call(folder: Path, *arguments: str) -> Ended:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = await asyncio.to_thread(main, [*arguments, "--config", str(folder / "interject.toml")])
    return Ended(code, out.getvalue(), err.getvalue())


def found_by_part(ended: Ended) -> dict[str, dict[str, Any]]:
    return {each["part"]: each for each in ended.objects}


async def test_while_the_database_does_not_answer_nobody_says_that_no_gateway_runs(home: Path) -> None:
    with socket.socket() as taken:  # it is bound, and does not listen
        taken.bind(("127.0.0.1", 0))
        settings(home, f"postgresql://interject:secret@127.0.0.1:{taken.getsockname()[1]}/interject")
        for_people = await call(home, "status")
        as_json = await call(home, "status", "--json")
    assert (for_people.code, as_json.code, as_json.object["running"]) == (1, 1, None)
    assert "not running" not in for_people.out
    assert "cannot be reached" in for_people.out
    assert "secret" not in for_people.out + as_json.out


async def test_a_database_that_may_not_be_written_is_told_before_the_start(home: Path, made: list[str]) -> None:
    settings(home, made[0])
    with psycopg.connect(made[0], autocommit=True) as connection:
        name = made[0].rpartition("/")[2]
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    check, doctor = await call(home, "check"), await call(home, "doctor", "--json")
    assert check.code == 1
    assert "is read-only. Set default_transaction_read_only = off" in check.out
    assert found_by_part(doctor)["database"]["level"] == "problem"


async def test_a_process_that_was_killed_here_runs_no_more_though_its_lease_goes_on(
    home: Path, made: list[str]
) -> None:
    settings(home, made[0])
    killed = await asyncio.create_subprocess_exec("true")
    await killed.wait()
    async with open_store(made[0], worker="killed", lease=600.0):
        before = (await call(home, "status", "--json")).object
        with psycopg.connect(made[0]) as connection:
            connection.execute("UPDATE workers SET pid = %s", [killed.pid])
        after = (await call(home, "status", "--json")).object
        listed = (await call(home, "workers", "--json")).object
    assert (before["running"], after["running"], after["gateways"], listed["state"]) == (True, False, [], "dead")


async def test_draining_says_what_follows_and_takes_no_worker_that_was_not_meant(home: Path, made: list[str]) -> None:
    settings(home, made[0])
    killed = await asyncio.create_subprocess_exec("true")
    await killed.wait()
    async with open_store(made[0], worker="dead-one", lease=600.0), open_store(made[0], worker="busy") as busy:
        with psycopg.connect(made[0]) as connection:
            connection.execute("UPDATE workers SET pid = %s WHERE id = 'dead-one'", [killed.pid])
        await busy.beat(600.0, 1, 4)
        nobody, dead, unknown = [await call(home, "drain", name) for name in ("", "dead", "nothing")]
        assert not (await busy.list_workers())[-1].draining
        told = await call(home, "drain", "bus")
    assert [each.code for each in (nobody, dead, unknown, told)] == [1, 1, 1, 0]
    assert "which worker?" in nobody.err
    assert "dead-one is dead: the others go on with what it has left" in dead.err
    assert "no worker has an id that begins with nothing" in unknown.err
    assert told.out.splitlines() == [
        "busy takes nothing new from now on, and ends after 1 running turn.",
        "No other worker goes on with its work: start one.",
    ]


async def test_what_goes_on_is_shown_beside_a_running_gateway(home: Path, models: ModelServer, made: list[str]) -> None:
    models.respond(answering(Say("Hello.")))
    before = await person_less(home, made[0])
    assert before.code == 1
    assert "holds no data of interject yet" in before.out
    async with person(home, models, f'[store]\nurl = "{made[0]}"\n') as ann:
        await ann.asks("hi")
        status = (await call(home, "status", "--json")).object
        for_people = await call(home, "status")
        [session] = (await call(home, "sessions", "--json")).objects
        [used] = [row for row in (await call(home, "usage", "--json")).objects if row["model"] == "openai:big"]
        audit = (await call(home, "audit", "--json")).objects
        why_not = await call(home, "why-not", "--channel", "web", "--user", "owner")
        with psycopg.connect(made[0]) as connection:
            [(turn,)] = connection.execute("SELECT id FROM turns").fetchall()
        trace = (await call(home, "trace", turn[:8], "--json")).object
    assert (status["running"], len(status["gateways"]), status["problem"]) == (True, 1, None)
    assert status["disk"]["database"] > 1_000_000
    assert "running for" in for_people.out
    assert session["conversation"] == "web/local/me"
    assert used["calls"] == 1
    assert audit[0]["event"] == "settings"
    assert "The message is answered." in why_not.out
    assert trace["turn"] == turn
    after = (await call(home, "status", "--json")).object
    assert (after["running"], after["gateways"], after["problem"]) == (False, [], None)


async def person_less(folder: Path, url: str) -> Ended:
    settings(folder, url)
    return await call(folder, "status")


async def test_keys_and_data_are_changed_beside_a_running_gateway(
    home: Path, models: ModelServer, made: list[str]
) -> None:
    models.respond(answering(Say("Hello.")))
    async with person(home, models, f'[store]\nurl = "{made[0]}"\n') as ann:
        await ann.asks("a word to delete")
        created = await call(home, "keys", "create", "--name", "CI", "--scope", "read")
        [key] = (await call(home, "keys", "list", "--json")).objects
        revoked = await call(home, "keys", "revoke", key["id"])
        exported = await call(home, "data", "export", str(home / "all.zip"), "--conversation", "web/local/me")
        deleted = await call(home, "data", "delete", "--yes", "--conversation", "web/local/me")
        left = await call(home, "data", "list", "--json")
    assert created.out.startswith("ij_")
    assert "Revoked" in revoked.out
    assert "1 conversations, 1 messages" in exported.out
    assert (deleted.code, left.out) == (0, "")
    assert "Deleted: " in deleted.out
    async with open_store(made[0]):
        pass
    assert (
        "there is no conversation"
        in (await call(home, "data", "delete", "--yes", "--conversation", "web/local/me")).err
    )


async def test_a_backup_beside_a_running_gateway_is_restored_on_either_engine(
    home: Path, models: ModelServer, made: list[str]
) -> None:
    models.respond(answering(Say("Hello."), Say("Later."), Say("Restored."), Say("Restored too.")))
    archive = str(home / "backup.zip")
    async with person(home, models, f'[store]\nurl = "{made[0]}"\n') as ann:
        await ann.asks("keep this")
        backup = (await call(home, "backup", archive, "--json")).object
        await ann.asks("not in the backup")
        busy = await call(home, "restore", archive, "--force")
        assert (busy.code, "is in use by a gateway" in busy.err) == (1, True)
    assert (backup["conversations"], backup["messages"], backup["schema"]) == (1, 1, REVISION)
    assert (home / "backup.zip").stat().st_mode & 0o077 == 0
    kept = await call(home, "restore", archive)
    assert (kept.code, "--force" in kept.err) == (1, True)
    assert (await call(home, "restore", archive, "--force")).code == 0
    for url in (made[0], f"sqlite:///{home / 'home' / 'other.db'}"):
        settings(home, url)
        if url != made[0]:
            assert (await call(home, "restore", archive)).code == 0
        async with person(home, models, f'[store]\nurl = "{url}"\n') as ann:
            assert "Restored" in await ann.asks("what do you know?")
            asked = json.dumps(models.requests[-1].body)
        assert "keep this" in asked
        assert "not in the backup" not in asked


async def test_a_server_is_checked(home: Path, server: Postgres, made: list[str]) -> None:
    settings(home, made[0])
    good = await call(home, "check", "--json")
    assert (good.code, found_by_part(good)["database"]["ok"]) == (0, True)
    server.execute("DROP ROLE IF EXISTS guest")
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest-password'")
    guest = made[0].replace("interject:secret", "guest:guest-password")
    settings(home, guest)
    powerless = await call(home, "check", "--json")
    assert powerless.code == 1
    assert "may not create tables" in found_by_part(powerless)["database"]["text"]
    rights = found_by_part(await call(home, "doctor", "--offline", "--json"))["database rights"]
    assert (rights["level"], "GRANT CREATE" in rights["do"]) == ("problem", True)
    settings(home, guest.replace("guest-password", "wrong-password"))
    for command in ("check", "doctor --offline"):
        refused = await call(home, *command.split(), "--json")
        assert refused.code == 1
        assert "password authentication failed" in refused.out
        assert "wrong-password" not in refused.out + refused.err
    port = urlsplit(made[0]).port
    settings(home, made[0].replace(str(port), "1"))
    gone = found_by_part(await call(home, "doctor", "--offline", "--json"))["database"]
    assert (gone["level"], "Check that the server runs" in gone["do"]) == ("problem", True)
    assert (await call(home, "status")).code == 1


async def test_a_server_is_examined(home: Path, made: list[str]) -> None:
    async with open_store(made[0]) as store:
        await tell(store)
        settings(home, made[0])
        found = found_by_part(await call(home, "doctor", "--offline", "--json"))
    levels = {part.removeprefix("database "): each["level"] for part, each in found.items() if "database" in part}
    assert levels == {
        "database": "ok",
        "rights": "ok",
        "latency": levels["latency"],
        "clock": "ok",
        "connections": "ok",
        "transactions": "ok",
        "vacuum": "problem",
    }
    assert found["database"]["what"].startswith("PostgreSQL ")
    assert "autovacuum" in found["database vacuum"]["do"]
    assert found["schema"]["what"] == REVISION
    assert found["gateway"]["what"].startswith("runs for ")


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"PGPASSWORD": "secret"}, ""),
        ({"PGPASSFILE": "{passfile}"}, ""),
        ({}, "?passfile={passfile}"),
        ({}, "?password=secret&connect_timeout=3&options=-c%20search_path%3Dpublic"),
        ({}, "?host=127.0.0.1:{port}&host=127.0.0.1:{port}&password=secret&target_session_attrs=read-write"),
    ],
)
async def test_what_a_url_leaves_out_is_found_as_postgresqls_own_programs_find_it(
    home: Path, made: list[str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: str
) -> None:
    passfile = home / "passwords"
    passfile.write_text("127.0.0.1:*:*:interject:secret\n")
    passfile.chmod(0o600)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(passfile=passfile))
    url = made[0].replace(":secret", "") + options.format(passfile=passfile, port=urlsplit(made[0]).port)
    settings(home, url)
    async with gateway(home / "interject.toml"):
        checked = await call(home, "check", "--json")
        status = (await call(home, "status", "--json")).object
    assert found_by_part(checked)["database"]["ok"]
    assert status["running"]


async def test_an_encrypted_connection_is_wanted_where_the_url_says_so(home: Path, made: list[str]) -> None:
    settings(home, f"{made[0]}?sslmode=verify-full")
    refused = await call(home, "check", "--json")
    assert refused.code == 1
    assert "SSL" in found_by_part(refused)["database"]["text"] or "root certificate" in refused.out


def test_a_transaction_that_is_never_ended_is_named_with_its_program(made: list[str]) -> None:
    with psycopg.connect(made[0], application_name="a forgotten shell") as connection:
        connection.execute("SELECT 1")
        found = {each.part: each for each in check_server(made[0], is_running=False, long=0.0)}
    assert found["database transactions"].level == "warning"
    assert "a forgotten shell" in found["database transactions"].what
    assert "pg_terminate_backend" in found["database transactions"].do


async def test_a_deletion_is_carried_out_where_no_gateway_runs(home: Path, made: list[str]) -> None:
    async with open_store(made[0]) as store:
        await tell(store, "a word")
        assert first_words(await begin(store)) == ["a word"]
    settings(home, made[0])
    [listed] = (await call(home, "data", "list", "--json")).objects
    deleted = await call(home, "data", "delete", "--yes", "--conversation", listed["conversation"])
    assert (deleted.code, "Deleted: " in deleted.out) == (0, True)
    assert (await call(home, "data", "list", "--json")).out == ""


async def test_what_workers_on_other_machines_would_not_share_is_told_before_they_are_missed(
    home: Path, made: list[str]
) -> None:
    settings(home, made[0])
    plain, looked = await call(home, "check"), await call(home, "doctor", "--json")
    file = home / "interject.toml"
    file.write_text(f'{file.read_text()}[media]\npath = "{home}/shared"\n')
    shared = await call(home, "check")
    file.write_text(file.read_text().replace("[store]\n", "[store]\nlease = 1\n"))
    short = await call(home, "check")
    file.write_text(file.read_text().replace("lease = 1\n", "lease = 500\n"))
    long = await call(home, "check")
    file.write_text("[web]\nport = 0\n")
    on_a_file = await call(home, "check")
    assert [each.code for each in (plain, shared, short, long, on_a_file)] == [0] * 5, plain.out + plain.err
    assert f"warning: [media] is the folder {home}/home/media of this process" in plain.out
    assert "path to a folder that all of them share" in plain.out
    assert "connections are free, and a worker takes 11" in plain.out
    assert [part for part in ("[media]", "lease is") if part in shared.out + on_a_file.out] == []
    assert "[store] lease is 1 s: a worker that is busy" in short.out
    assert "[store] lease is 500 s: after a crash" in long.out
    warnings = [each for each in looked.objects if each["part"] == "several workers"]
    assert [(each["level"], each["do"].partition(" ")[0]) for each in warnings] == [("warning", "Set")]
