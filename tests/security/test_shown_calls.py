"""People see all of what they approve: a command's end, and characters that would hide it."""

from __future__ import annotations

import json
from pathlib import Path

from agent.decisions.approvals import visible
from agent.tools.sandbox import CommandPolicy
from agent.tools.shell import shell_with
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Say
from tests.servers.telegram import BotApi

OUTSIDE = '[tools.shell]\nsandbox = "none"\n'


def test_the_shell_needs_approval_outside_the_sandbox_only() -> None:
    assert shell_with(CommandPolicy()).approval == "never"
    assert shell_with(CommandPolicy(sandboxed=False)).approval == "once"


def test_characters_that_hide_text_or_change_its_direction_are_shown_as_escapes() -> None:
    assert visible("a\u202eb\u200bc\x1b[8md\re\u2066f\U000e0041") == (
        r"a\u202eb\u200bc\x1b[8md\x0de\u2066f\U000e0041"
    )  # fmt: skip
    assert visible("two\nlines\tä 漢 🍎") == "two\nlines\tä 漢 🍎"


async def test_a_long_command_comes_as_a_file_beside_the_question(tmp_path: Path) -> None:
    command = f"echo {'harmless ' * 130}; \u202erm -rf precious"
    async with BotApi() as api, ModelServer() as models:
        models.script(Call("shell", {"command": command}), Say("I leave it."))
        async with gateway(write_settings(tmp_path, api, models, more=OUTSIDE)):
            ann = api.private(user_id=7, name="Ann")
            await ann.say("tidy up")
            asked = await ann.until(lambda chat: next((each for each in chat.messages if each.buttons), None))
            assert "(1,198 characters in total; the file shell-call.txt has all of them)" in asked.text
            file = next(each.document for each in ann.messages if each.document)
            assert file.decode() == "command:\n" + command.replace("\u202e", r"\u202e")


async def test_a_short_command_is_shown_as_it_is_with_its_hidden_characters(tmp_path: Path) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.script(Call("shell", json.dumps({"command": "ls \u202egnp.sj"})), Say("I leave it."))
        async with gateway(write_settings(tmp_path, api, models, more=OUTSIDE)):
            ann = api.private(user_id=7, name="Ann")
            await ann.say("look")
            asked = await ann.until(lambda chat: next((each for each in chat.messages if each.buttons), None))
            assert r"ls \u202egnp.sj" in asked.text
            assert not [each for each in ann.messages if each.document]
