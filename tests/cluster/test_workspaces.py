"""Machines without a shared folder have the same files in a workspace: what one has made, the next goes on with."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.workspaces import sync
from tests.cluster.fleet import fleet
from tests.cluster.sites import Site, site, two_sites
from tests.engines import engines
from tests.servers.models import Call, ModelServer, Pause, Request, Say
from tests.servers.s3 import S3
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

PLACE = "web:local:plan"
BUCKET = "files"
SETTINGS = """\
[agent]
model = "openai:test"
workspaces = "{whose}"
shutdown_grace = 5
[models.openai]
api_key = "test-key"
base_url = "{models}"
[web]
port = 0
[tools]
enabled = ["read_file", "write_file", "list_files", "shell"]
{more}
"""

numbers = itertools.count()


def settings(folder: Path, models: ModelServer, *, whose: str = "conversation", more: str = "") -> Path:
    """With media in a folder that all machines share, unless `more` says something else."""
    file = folder / "interject.toml"
    more = more or f'[media]\nurl = "file://{folder / "media"}"\n'
    file.write_text(SETTINGS.format(models=models.openai_url, whose=whose, more=more))
    return file


def in_bucket(s3: S3) -> str:
    return f"""
[media]
url = "s3://{BUCKET}"
[media.s3]
endpoint = "{s3.url}"
region = "{s3.region}"
access_key_id = "{s3.key_id}"
secret_access_key = "{s3.secret}"
"""


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    async with S3() as service:
        service.add_bucket(BUCKET)
        yield service


@asynccontextmanager
async def machines(file: Path) -> AsyncIterator[tuple[Site, Site]]:
    async with asyncio.timeout(240), two_sites(file) as (one, other):
        yield one, other


@asynccontextmanager
async def alone(file: Path) -> AsyncIterator[Site]:
    environ = {"INTERJECT_STORE__URL": engines.url(file.parent / "interject.db")}
    async with asyncio.timeout(240), site(file, environ, "a") as one:
        yield one


async def say(by: Site, text: str, place: str = PLACE) -> dict[str, Any]:
    """A message that this machine takes; the run, once it has ended."""
    async with by.client(by.token) as owner:
        body = {"client_id": f"message-{next(numbers):06}", "text": text}
        answer = await owner.post(
            f"/api/v1/conversations/{place}/messages", json=body, params={"wait": 60, "until": "end"}
        )
    run: dict[str, Any] = answer.raise_for_status().json()["result"]
    return run


def folder(home: Path, place: str = PLACE) -> Path:
    """The workspace of the conversation on this machine."""
    name = place.replace("web:local:", "")
    (found,) = [each for each in (home / "workspace").iterdir() if name in each.name]
    return found


def files(root: Path) -> dict[str, str]:
    """Texts by path; links with their targets, and folders without files."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
        elif not any(path.iterdir()):
            found[name] = "(empty)"
    return found


def write(path: str, content: str) -> Call:
    return Call("write_file", {"path": path, "content": content})


def results(request: Request) -> str:
    return "\n".join(message.text for message in request.messages if message.role == "tool")


async def test_the_files_that_one_machine_has_made_are_there_on_the_next_and_what_that_changes_comes_back(
    tmp_path: Path, models: ModelServer
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody may read this")
    command = (
        "mkdir -p 'a b/ü' empty && printf one > 'a b/ü/ö ß.txt' && printf run > run.sh && chmod 755 run.sh && "
        f"ln -s 'a b' inside && ln -s {secret} outside && ln -s {tmp_path} folder-outside && printf gone > old.txt"
    )
    models.script(
        [Call("shell", {"command": command})],
        Say("Made."),
        [
            Call(
                "shell",
                {"command": "printf two > 'a b/ü/ö ß.txt' && rm old.txt && rmdir empty && printf new > new.txt"},
            )
        ],
        Say("Changed."),
        [Call("read_file", {"path": "a b/ü/ö ß.txt"})],
        Say("Read."),
    )
    async with machines(settings(tmp_path, models)) as (one, other):
        assert (await say(one, "make them"))["text"] == "Made."
        made = files(folder(tmp_path / "a"))
        assert made["a b/ü/ö ß.txt"] == "one"
        assert made["empty"] == "(empty)"
        assert (await say(other, "change them"))["text"] == "Changed."
        there = folder(tmp_path / "b")
        assert stat.S_IMODE((there / "run.sh").stat().st_mode) == 0o755
        assert files(there) == {
            "a b/ü/ö ß.txt": "two",
            "run.sh": "run",
            "new.txt": "new",
            "inside": "-> a b",
            "outside": f"-> {secret}",
            "folder-outside": f"-> {tmp_path}",
        }
        untouched = (folder(tmp_path / "a") / "run.sh").stat()
        await say(one, "read it")
        assert "two" in results(models.requests[-1])
        assert files(folder(tmp_path / "a")) == files(there)
        assert (folder(tmp_path / "a") / "run.sh").stat() == untouched, "what has not changed is not touched"
    stored = [path.read_bytes() for path in (tmp_path / "media").rglob("*") if path.is_file()]
    assert b"one" in stored
    assert secret.read_bytes() not in stored, "links are not followed"


async def test_only_what_has_changed_is_sent_to_the_bucket(tmp_path: Path, models: ModelServer, s3: S3) -> None:
    command = "for number in $(seq 20); do echo $number > file-$number; done"
    models.script(
        [Call("shell", {"command": command})],
        Say("Made."),
        [write("file-7", "seven")],
        Say("Changed."),
        [Call("shell", {"command": "cat file-7 file-8"})],
        Say("Read."),
        [Call("list_files", {})],
        Say("Listed."),
    )
    async with machines(settings(tmp_path, models, more=in_bucket(s3))) as (one, other):
        await say(one, "make them")
        assert s3.count("PUT") == 21, "each file, and the list of them"
        await say(other, "change one")
        assert s3.count("PUT") == 23, "the file, and the list"
        assert s3.count("GET") == 21
        await say(one, "read two")
        assert "seven\n8" in results(models.requests[-1]).replace("seven8", "seven\n8")
        assert (s3.count("PUT"), s3.count("GET")) == (23, 23)
        await say(one, "list them")
        assert (s3.count("PUT"), s3.count("GET")) == (23, 23), "a turn that changes nothing costs no request"


async def test_of_a_file_that_two_machines_change_at_the_same_time_both_versions_stay(
    tmp_path: Path, models: ModelServer
) -> None:
    models.script(
        [write("notes.txt", "nothing special")],
        [Pause(), write("plan.txt", "of one")],
        [write("plan.txt", "of the other")],
        Say("Written there."),
        Say("Written here."),
        [Call("list_files", {})],
        Say("Listed."),
    )
    async with machines(settings(tmp_path, models, whose="shared")) as (one, other):
        first = asyncio.create_task(say(one, "write a plan", "web:local:first"))
        await models.until_held()
        await saved(tmp_path, 1)
        await say(other, "write a plan too", "web:local:second")
        models.release()
        await first
        expected = {"notes.txt": "nothing special", "plan.txt": "of the other", "plan (conflict).txt": "of one"}
        assert files(tmp_path / "a" / "workspace") == expected
        await say(one, "what is there?", "web:local:first")
        assert any("plan (conflict).txt" in message.text for message in models.requests[-2].messages), (
            "the model is told"
        )
        await say_nothing_more(models, other)
        assert files(tmp_path / "b" / "workspace") == expected


async def say_nothing_more(models: ModelServer, by: Site) -> None:
    models.script(Say("Well."))
    await say(by, "hello", "web:local:second")


async def _a_moment() -> None:
    await asyncio.sleep(0.05)


async def saved(folder: Path, version: int) -> None:
    """Returns when that version of a workspace is saved."""
    async with asyncio.timeout(60):
        while not engines.sql(folder / "interject.db", "SELECT 1 FROM workspaces WHERE version >= ?", version):
            await _a_moment()


async def test_files_that_are_used_stay_when_unused_ones_are_deleted(tmp_path: Path, models: ModelServer) -> None:
    models.script(
        [write("a.txt", "first")],
        [write("a.txt", "second")],
        Say("Written."),
        [Call("read_file", {"path": "a.txt"})],
        Say("Read."),
    )
    async with machines(settings(tmp_path, models)) as (one, other):
        await say(one, "write it")
        media: Any = one.built.gateway.media
        await media.sweep(timedelta(0))
        stored = [path.read_bytes() for path in (tmp_path / "media").rglob("*") if path.is_file()]
        assert len(stored) == 2, "the file as it is now, and the list"
        await say(other, "read it")
        assert "second" in results(models.requests[-1])


async def test_what_is_deleted_on_one_machine_is_deleted_on_all(
    tmp_path: Path, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "LOOK_PAUSE", 0.05)
    models.script(
        [write("diary.txt", "dear diary")],
        Say("Written."),
        [Call("read_file", {"path": "diary.txt"})],
        Say("Read."),
        [write("list.txt", "of another conversation")],
        Say("Written."),
        [write("diary.txt", "a new one")],
        Say("Written."),
    )
    async with machines(settings(tmp_path, models)) as (one, other):
        await say(one, "write it")
        await say(other, "read it")
        await say(one, "and another", "web:local:elsewhere")
        here = folder(tmp_path / "a")
        async with other.client(other.token) as owner:
            (await owner.delete(f"/api/v1/conversations/{PLACE}")).raise_for_status()
        async with asyncio.timeout(30):
            while here.exists():
                await _a_moment()
        stored = [path.read_bytes() for path in (tmp_path / "media").rglob("*") if path.is_file()]
        assert b"dear diary" not in stored
        assert b"of another conversation" in stored
        assert len(engines.sql(tmp_path / "interject.db", "SELECT key FROM workspaces WHERE key IS NOT NULL")) == 1
        await say(one, "write a new one")
        assert files(here) == {"diary.txt": "a new one"}


async def test_a_machine_that_was_off_does_not_bring_deleted_files_back(tmp_path: Path, models: ModelServer) -> None:
    models.script(
        [write("diary.txt", "dear diary")],
        Say("Written."),
        Say("Hello."),
        Say("Hello again."),
    )
    file = settings(tmp_path, models)
    async with machines(file) as (one, other):
        await say(one, "write it")
        await say(other, "hello")
        here, there = folder(tmp_path / "a"), folder(tmp_path / "b")
        async with other.client(other.token) as owner:
            (await owner.delete(f"/api/v1/conversations/{PLACE}")).raise_for_status()
        assert not there.exists()
        # It may not have looked since; a turn looks for itself.
        await say(one, "hello?")
        assert not here.exists() or not any(here.iterdir())


async def test_people_are_told_what_is_not_saved_and_while_the_bucket_is_away(
    tmp_path: Path, models: ModelServer, s3: S3
) -> None:
    models.script(
        [write("a.txt", "first")],
        Say("Written."),
        [write("b.txt", "second")],
        Say("Written too."),
        [Call("list_files", {})],
        Say("Listed."),
    )
    async with machines(settings(tmp_path, models, more=in_bucket(s3))) as (one, other):
        s3.deny("PUT")
        run = await say(one, "write it")
        assert run["state"] == "completed"
        assert "could not be saved" in await shown(one)
        s3.deny()
        await say(one, "write more")
        assert any("could not be saved" in message.text for message in models.requests[-2].messages)
        await say(other, "what is there?")
        assert "a.txt" in results(models.requests[-1])
        assert "b.txt" in results(models.requests[-1])


async def test_neither_the_model_nor_people_wait_while_files_are_saved(
    tmp_path: Path, models: ModelServer, s3: S3
) -> None:
    models.script(
        [write("a.txt", "first")],
        [Pause(), write("b.txt", "never written")],
        [write("b.txt", "second")],
        Say("Written."),
        [Call("list_files", {})],
        Say("Listed."),
    )
    async with machines(settings(tmp_path, models, more=in_bucket(s3))) as (one, other):
        answered = s3.hold("PUT")
        first = asyncio.create_task(say(one, "write"))
        await models.until_held()
        async with one.client(one.token) as owner:
            body = {"client_id": "message-other", "text": "no, write something else"}
            (await owner.post(f"/api/v1/conversations/{PLACE}/messages", json=body)).raise_for_status()
        await models.until(4)
        await s3.asked("PUT", 1)
        assert not engines.sql(tmp_path / "interject.db", "SELECT 1 FROM workspaces")
        assert not first.done(), "the turn ends when its files are saved"
        answered.set()
        assert (await first)["text"].endswith("Written.")
        await say(other, "what is there?")
        assert "a.txt" in results(models.requests[-1])
        assert "b.txt" in results(models.requests[-1])


async def shown(by: Site) -> str:
    """What people see of the conversation."""
    async with by.client(by.token) as owner:
        return (await owner.get(f"/api/v1/conversations/{PLACE}/history")).raise_for_status().text


TELEGRAM = """
[media]
url = "file://{folder}/media"
[store]
lease = 2.0
[channels.telegram]
token = "{api.token}"
api_url = "{api.url}"
allow = ["*"]
"""


async def test_after_a_kill_the_next_machine_goes_on_with_what_was_saved_and_says_so(
    tmp_path: Path, models: ModelServer
) -> None:
    models.script(
        [write("saved.txt", "safe")],
        [Call("shell", {"command": "echo lost > unsaved.txt; sleep 600"})],
        [Call("list_files", {})],
        Say("That is all."),
        Say("Hello."),
    )
    async with BotApi() as api:
        file = settings(tmp_path, models, more=TELEGRAM.format(folder=tmp_path, api=api))
        async with fleet(file, "one", "two") as workers:
            ann = api.private(user_id=7, name="Ann")
            await ann.say("do it")
            first = await worker_with(tmp_path, "unsaved.txt")
            await saved(tmp_path, 1)
            await workers.kill(first)
            await ann.hear("That is all.")
            messages = models.requests[-1].messages
            assert any("goes on on another machine" in message.text for message in messages), "the model is told"
            second = "two" if first == "one" else "one"
            (there,) = (tmp_path / second / "workspace").iterdir()
            assert files(there) == {"saved.txt": "safe"}
        assert models.refusals == []


async def worker_with(root: Path, name: str) -> str:
    """The name of the worker that has this file in a workspace."""
    async with asyncio.timeout(120):
        while True:
            written = [path for path in root.glob(f"*/workspace/*/{name}") if path.read_text()]  # noqa: ASYNC240
            if written:
                return written[0].relative_to(root).parts[0]
            await _a_moment()


async def test_the_files_of_a_turn_go_along_when_its_worker_ends(tmp_path: Path, models: ModelServer) -> None:
    models.script(
        [Call("shell", {"command": "echo first > steps.txt; sleep 2; echo second >> steps.txt"})],
        [Call("shell", {"command": "echo third >> steps.txt"})],
        Say("All done."),
    )
    async with BotApi() as api:
        file = settings(tmp_path, models, more=TELEGRAM.format(folder=tmp_path, api=api))
        file.write_text(file.read_text().replace("shutdown_grace = 5", "shutdown_grace = 60"))
        async with fleet(file, "one", "two") as workers:
            ann = api.private(user_id=7, name="Ann")
            await ann.say("do it")
            first = await worker_with(tmp_path, "steps.txt")
            assert await workers.end(first) == 0
            await ann.hear("All done.")
            second = "two" if first == "one" else "one"
            (there,) = (tmp_path / second / "workspace").iterdir()
            assert files(there) == {"steps.txt": "first\nsecond\nthird\n"}


async def test_what_a_call_in_the_background_has_written_is_there_when_its_result_is_told(
    tmp_path: Path, models: ModelServer
) -> None:
    models.script(
        [
            Call(
                "shell",
                {"command": "echo begun > a.txt; while [ ! -e go.txt ]; do sleep 0.05; done; echo done >> a.txt"},
            )
        ],
        Say("It goes on."),
        Say("It has ended."),
        [Call("read_file", {"path": "a.txt"})],
        Say("Read."),
    )
    async with machines(settings(tmp_path, models)) as (one, other):
        async with one.client(one.token) as owner:
            body = {"client_id": "message-begin", "text": "begin"}
            (await owner.post(f"/api/v1/conversations/{PLACE}/messages", json=body)).raise_for_status()
        await worker_with(tmp_path, "a.txt")
        await say(one, "how is it going?")
        await saved(tmp_path, 1)
        (folder(tmp_path / "a") / "go.txt").touch()
        await models.until(3)
        await saved(tmp_path, 2)
        await say(other, "read it")
        assert "begun\ndone" in results(models.requests[-1])


async def test_a_folder_that_machines_share_is_not_saved(tmp_path: Path, models: ModelServer) -> None:
    models.script([write("a.txt", "first")], Say("Written."), [Call("read_file", {"path": "a.txt"})], Say("Read."))
    file = settings(tmp_path, models)
    file.write_text(file.read_text().replace("[agent]", f'[agent]\nworkspace = "{tmp_path / "shared"}"', 1))
    async with machines(file) as (one, other):
        await say(one, "write it")
        await say(other, "read it")
        assert "first" in results(models.requests[-1])
        assert not engines.sql(tmp_path / "interject.db", "SELECT 1 FROM workspaces")
        assert not any((tmp_path / home / "workspaces-saved").exists() for home in ("a", "b"))


@pytest.mark.engines("sqlite")
async def test_the_workspace_of_one_process_is_only_a_folder(tmp_path: Path, models: ModelServer) -> None:
    models.script([write("a.txt", "first")], Say("Written."))
    async with alone(settings(tmp_path, models)) as one:
        assert (await say(one, "write it"))["text"] == "Written."
    assert files(folder(tmp_path / "a")) == {"a.txt": "first"}
    assert not (tmp_path / "a" / "workspaces-saved").exists()
    assert not engines.sql(tmp_path / "interject.db", "SELECT 1 FROM workspaces")
