"""Traces of tasks through the front door: `/trace` in a chat, and `interject trace` beside the gateway."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_operate import call
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi, Person

BOB = Person(8, "Bob")
LOOK = Call("list_files", {"path": "."})
APPROVED = '[tools.list_files]\napproval = "always"\n'

GUARDED = (
    '[[hooks]]\nname = "guard"\ntype = "python"\npath = "guard.py:Guard"\npoints = ["before_model", "before_tool"]\n'
)
GUARD = """
from dataclasses import replace

from interject import Deny


class Guard:
    async def before_model(self, where, request):
        return replace(request, notices=("Be brief.",)) if request.step == 2 else request

    async def before_tool(self, where, call):
        return Deny("private") if call.tool == "read_file" else None
"""


def kinds(trace: dict[str, Any]) -> list[str]:
    return [span["kind"] for span in trace["spans"]]


def only(trace: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [span for span in trace["spans"] if span["kind"] == kind]


async def test_a_trace_says_what_was_read_asked_run_sent_and_when(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(
        [Say("Let me "), Call("list_files", {})], Say(["There is ", Pause(), "nothing"]), Say("Nothing, Ann.")
    )
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("what is here?")
        await ann.hear("There is")
        await ann.say("quickly please")
        await ann.hear("Nothing, Ann.")
        await ann.say("/trace")
        shown = await ann.until(lambda ann: next((each for each in ann.texts if "completed after" in each), None))
        task = re.search("Task ([0-9a-f]{12})", shown)
        assert task is not None
        trace = (await call(tmp_path, "trace", task[1], "--json")).object
        missing = await call(tmp_path, "trace", "123456")
    assert "3 answers of the model, 1 tool call" in shown
    assert "read 1 message of Ann" in shown
    assert "list_files" in shown
    assert "█" in shown
    assert "what is here?" not in shown
    assert (trace["person"], trace["channel"], trace["outcome"]) == ("telegram:7", "telegram", "completed")
    assert [read["messages"][0]["text"] for read in only(trace, "read")] == ["what is here?", "quickly please"]
    first, cut, last = only(trace, "model")
    assert [first["outcome"], cut["outcome"], last["outcome"]] == ["answered", "interrupted", "answered"]
    for answer in (first, cut, last):
        assert answer["seconds"] >= answer["first_token"] >= 0
    [tool] = only(trace, "tool")
    assert (tool["tool"], tool["outcome"]) == ("list_files", "done")
    assert first["at"] <= tool["at"] <= cut["at"] <= last["at"] <= trace["seconds"]
    assert {send["state"] for send in only(trace, "send")} == {"shown"}
    assert all(span["at"] is not None for span in trace["spans"])
    assert missing.code == 1
    assert "there is no task 123456" in missing.err


async def test_an_approval_is_in_it_with_who_decided_and_how_long_it_waited(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Call("list_files", {})], Say("Nothing here."))
    async with gateway(write_settings(tmp_path, api, models, more=APPROVED)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("look")
        await ann.hear("May I use list_files?")
        question = await ann.until(lambda ann: next((each for each in ann.messages if each.buttons), None))
        await ann.press(question, question.buttons[0]["callback_data"])
        await ann.hear("Nothing here.")
        await ann.say("/trace")
        shown = await ann.until(lambda ann: next((each for each in ann.texts if "completed after" in each), None))
    assert "approval of list_files: allowed by Ann, after" in shown


async def test_hooks_are_in_it_with_what_they_decided(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Call("list_files", {}), Call("read_file", {"path": "a"})], Say("Nothing here."))
    (tmp_path / "guard.py").write_text(GUARD)
    async with gateway(write_settings(tmp_path, api, models, more=GUARDED)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("look")
        await ann.hear("Nothing here.")
        await ann.say("/trace")
        shown = await ann.until(lambda ann: next((each for each in ann.texts if "completed after" in each), None))
        with closing(sqlite3.connect(tmp_path / "home" / "interject.db")) as database:
            [(task,)] = database.execute("SELECT id FROM turns WHERE kind = 'turn'")
        trace = (await call(tmp_path, "trace", task, "--json")).object
    asked = [(hook["point"], hook["ruling"], hook["by"], hook["changed"]) for hook in only(trace, "hook")]
    assert sorted(asked) == [
        ("before_model", "", "", False),
        ("before_model", "", "", True),
        ("before_tool", "", "", False),
        ("before_tool", "deny", "guard", False),
    ]
    assert all(hook["seconds"] >= 0 for hook in only(trace, "hook"))
    assert "hooks at before_tool (0.0 s, deny by guard)" in shown


async def test_the_task_of_the_message_that_is_replied_to_is_shown_to_those_who_may_see_it(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("First."), Say("Second."))
    async with gateway(write_settings(tmp_path, api, models, more='groups = "all"\n')):
        team = api.group(people=(Person(7, "Ann"), BOB))
        asked = await team.say("one")
        first = await team.hear("First.")
        await team.say("two")
        second = await team.hear("Second.")
        tasks = []
        for message in (asked, first, second):
            before = len(team.texts)
            await team.say("/trace", reply_to=message)
            await team.until(lambda team, before=before: len(team.texts) > before)
            tasks.append(team.texts[-1].split()[1])
        await team.say("/trace", reply_to=first, sender=BOB)
        await team.hear("Only Ann and admins may see the trace of this task.")
        await team.say("/trace 000000")
        await team.hear("I know no task in this conversation")
    assert tasks[0] == tasks[1] != tasks[2]


async def test_a_log_of_an_earlier_version_has_a_trace_without_times(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([LOOK], Say("Nothing."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("look")
        await ann.hear("Nothing.")
    with closing(sqlite3.connect(tmp_path / "home" / "interject.db")) as database:
        [(task,)] = database.execute("SELECT id FROM turns WHERE kind = 'turn'")
        database.execute("UPDATE turn_log SET at = NULL, entry = json_remove(entry, '$.seconds', '$.first_token')")
        database.execute("UPDATE outbox SET at = NULL")
        database.commit()
    trace = (await call(tmp_path, "trace", task, "--json")).object
    for_people = await call(tmp_path, "trace", task)
    assert kinds(trace) == ["read", "model", "tool", "model", "event", "send"]
    assert {span["at"] for span in trace["spans"]} == {None}
    assert "list_files" in for_people.out


async def test_the_page_is_one_private_file_that_nothing_in_it_can_change(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Hello."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("<script>alert(1)</script>")
        await ann.hear("Hello.")
        [session] = (await call(tmp_path, "sessions", "--json")).objects
        with closing(sqlite3.connect(tmp_path / "home" / "interject.db")) as database:
            [(task,)] = database.execute("SELECT id FROM turns WHERE kind = 'turn'")
        file = tmp_path / "trace.html"
        ended = await call(tmp_path, "trace", task[:8], "--html", str(file))
    page = file.read_text()
    assert (ended.code, session["conversation"]) == (0, "telegram/" + session["conversation"].partition("/")[2])
    assert file.stat().st_mode & 0o777 == 0o600
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")
