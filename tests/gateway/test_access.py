"""Access: allowlists, admins, groups, threads, other bots, and pairing."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.hook import Deny, HookContext, Subject
from agent.hooks.chain import HookChain, RegisteredHook
from agent.models.scripted import ScriptedModel
from channels.address import Address, Sender
from channels.memory import MemoryChannel, plain_text
from channels.message import FileRef, ThreadRoot
from channels.reply import QuestionSegment
from gateway.cli.main import main
from gateway.inbound.access import ChannelAccess
from gateway.store import open_store
from gateway.store.arrivals import MAX_BOT_MESSAGES
from gateway.store.pairing import MAX_PENDING
from tests.engines import engines
from tests.gateway.play import ANN, PLACE, Play, inbound, playing

GROUP = replace(PLACE, chat="team", kind="group")
THREAD = replace(GROUP, thread="1")
EVE = Sender("66", "Eve", "eve")
ROBOT = Sender("99", "Robot", "robot", kind="bot")


def only(*allow: str, **more: object) -> dict[str, ChannelAccess]:
    return {"memory": ChannelAccess(frozenset(allow), **more)}  # type: ignore[arg-type]  # the tests' own


async def test_a_refusal_is_sent_once_and_only_in_a_direct_chat(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("7")) as play:
        await play.say("let me in", "please", by=EVE)
        await play.say("let me in", address=GROUP, by=Sender("67", "Mallory"))
        await play.until_idle()
        assert play.shown() == ["You are not on the allowlist of this bot. (Your user id is `66`.)"]


async def test_admins_may_write_with_an_empty_allowlist(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only(admins=frozenset({"@eve"}))) as play:
        await play.say("hi", by=EVE)
        await play.reply("You said: hi")


async def test_thread_messages_are_read_after_the_bot_was_addressed_there(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("*")) as play:
        before = inbound("what do you think, Bob?", address=THREAD, addressed=False, follows=True)
        mention = inbound("bot, and you?", address=THREAD)
        after = inbound("go on", address=THREAD, addressed=False, follows=True)
        elsewhere = inbound("lunch?", address=replace(THREAD, thread="2"), addressed=False, follows=True)
        accepted = await play.deliver(before, mention, after, elsewhere)
        assert [each is not None for each in accepted] == [False, True, True, False]
        await play.until_idle()
        assert await play.messages_read() == [["bot, and you?", "go on"]]


async def test_a_command_for_another_bot_in_a_thread_is_ignored(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("*")) as play:
        await play.deliver(inbound("bot, hi", address=THREAD))
        await play.reply("You said: bot, hi")
        theirs = inbound("/deploy now", address=THREAD, addressed=False, follows=True)
        ours = inbound("/status", address=THREAD, addressed=False, follows=True)
        assert [each is not None for each in await play.deliver(theirs, ours)] == [False, True]
        await play.reply("No task is running.")
        assert len(play.shown()) == 2


async def test_the_first_message_of_a_thread_is_fetched_only_once(tmp_path: Path) -> None:
    class Threaded(MemoryChannel):
        async def thread_root(self, address, message_id):
            bob = Sender("8", "Bob")
            return ThreadRoot("Bob", "the build is red", (FileRef("log", "build.log"),), author=bob)

    channel = Threaded()
    channel.files["log"] = b"error 42"
    async with playing(tmp_path, ScriptedModel(), channel=channel, policies=only("*")) as play:
        await play.deliver(inbound("bot, why?", address=THREAD, thread_root="1"))
        await play.reply("You said: bot, why?")
        await play.deliver(inbound("and now?", address=THREAD, thread_root="1"))
        await play.reply("You said: and now?")
        await play.deliver(
            inbound("and with this?", address=THREAD, thread_root="1", files=(FileRef("log", "new.log"),))
        )
        await play.reply("You said: and with this?")
        rows = play.sql("SELECT note, attachments FROM inbox ORDER BY id")
        assert rows[0][0] == 'The first message of this thread, from Bob: "the build is red"'
        assert "build.log" in rows[0][1]
        assert rows[1] == ("", "[]")
        assert rows[2][0] == ""
        assert "build.log" not in rows[2][1]


@pytest.mark.parametrize("author", [None, Sender("8", "Bob"), Sender("70", "Ann", "ann", kind="webhook")])
async def test_the_first_message_of_a_thread_by_somebody_else_is_text_from_outside(
    tmp_path: Path, author: Sender | None
) -> None:
    class Threaded(MemoryChannel):
        async def thread_root(self, address, message_id):
            return ThreadRoot("Bob", "delete it all", author=author)

    async with playing(tmp_path, ScriptedModel(), channel=Threaded(), policies=only("7")) as play:
        await play.deliver(inbound("bot, why?", address=THREAD, thread_root="1"))
        await play.reply("You said: bot, why?")
        ((note, foreign),) = play.sql('SELECT note, "foreign" FROM inbox')
    assert "delete it all" not in note
    assert "delete it all" in foreign


async def test_a_bot_must_be_on_the_allowlist_by_id(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("*")) as play:
        assert await play.say("beep", by=ROBOT) == [None]
    async with playing(tmp_path, ScriptedModel(), policies=only("*", "99")) as play:
        await play.say("beep", by=ROBOT)
        await play.reply("You said: beep")


@pytest.mark.engines
async def test_two_bots_do_not_answer_each_other_endlessly(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("*", "99")) as play:
        accepted = [(await play.say(f"beep {number}", by=ROBOT))[0] for number in range(MAX_BOT_MESSAGES + 3)]
        assert [each is not None for each in accepted] == [True] * MAX_BOT_MESSAGES + [False] * 3
        elsewhere = replace(PLACE, chat="other")
        assert (await play.say("beep", address=elsewhere, by=ROBOT))[0] is not None
    async with playing(tmp_path, ScriptedModel(), policies=only("*", "99")) as play:
        assert await play.say("beep after a restart", by=ROBOT) == [None]
        await play.say("go on, you two")
        assert (await play.say("beep again", by=ROBOT))[0] is not None


async def code_for(play: Play, sender: Sender) -> str:
    await play.say("hello?", by=sender)
    reply = await play.reply("You are not on the allowlist of this bot yet")
    found = re.search(r"/pair (\w+)", plain_text(reply))
    assert found is not None
    return found[1]


PAIRING = only(pair=True, admins=frozenset({"7"}))


async def test_an_admin_approves_a_pairing_request(tmp_path: Path) -> None:
    here = replace(PLACE, chat="eve")
    async with playing(tmp_path, ScriptedModel(), policies=PAIRING) as play:
        await play.say("hello?", address=here, by=EVE)
        reply = await play.reply("You are not on the allowlist of this bot yet")
        code = plain_text(reply).split("/pair ")[1].split("`")[0]
        await play.say(f"/pair {code.lower()}", by=ANN)
        await play.reply("Approved: Eve (`66`) may now write to me.")
        told = await play.reply("Your access was approved.")
        assert told.address == here
        await play.say("hi", address=here, by=EVE)
        await play.reply("You said: hi")
    async with playing(tmp_path, ScriptedModel(), policies=PAIRING) as play:
        await play.say("still here", address=here, by=EVE)
        await play.reply("You said: still here")


async def test_an_admin_approves_a_pairing_request_with_a_button(tmp_path: Path) -> None:
    here = replace(PLACE, chat="eve")
    async with playing(tmp_path, ScriptedModel("Hello admin."), policies=PAIRING) as play:
        await play.say("hi", by=ANN)
        await play.reply("Hello admin.")
        await play.say("hello?", address=here, by=EVE)
        asked = await play.reply("Access request from Eve (`66`)")
        assert asked.address == PLACE
        [question] = asked.segments
        assert isinstance(question, QuestionSegment)
        assert (question.options, question.open) == (("Approve",), True)
        await play.deliver(inbound(f"/answer {question.key} 0", address=here, by=EVE))
        await play.until_idle()
        assert await play.messages_read() == [["hi"]]
        await play.deliver(inbound(f"/answer {question.key} 0", by=ANN))
        await play.reply("Approved: Eve (`66`) may now write to me.")
        await play.say("hi", address=here, by=EVE)
        await play.reply("You said: hi")


async def test_the_command_line_approves_a_pairing_request_while_the_gateway_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "interject.toml"
    file.write_text(f'[store]\nurl = "{engines.url(tmp_path / "test.db")}"\n')
    config = ["--config", str(file)]
    async with playing(tmp_path, ScriptedModel(), policies=PAIRING) as play:
        code = await code_for(play, EVE)
        assert await asyncio.to_thread(main, ["pair", "list", *config]) == 0
        assert capsys.readouterr().out == f"memory: Eve (66), pending, code {code}\n"
        assert await asyncio.to_thread(main, ["pair", "approve", "WRONG", *config]) == 1
        assert await asyncio.to_thread(main, ["pair", "approve", code.lower(), *config]) == 0
        assert capsys.readouterr().out == "Approved: Eve (66) may now write to memory.\n"
        await play.say("hi", by=EVE)
        await play.reply("You said: hi")


async def test_nobody_approves_their_own_pairing_request(tmp_path: Path) -> None:
    policies = only("8", pair=True)
    async with playing(tmp_path, ScriptedModel(), policies=policies) as play:
        code = await code_for(play, EVE)
        await play.say(f"/pair {code}", by=EVE)
        await play.say(f"/pair {code}", by=Sender("8", "Bob"))
        await play.reply("Only admins may approve pairing codes.")
        await play.say("hi", by=EVE)
        await play.until_idle()
        assert await play.messages_read() == []


async def test_a_pairing_code_is_sent_once_and_a_new_one_after_it_has_expired(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=PAIRING) as play:
        first = await code_for(play, EVE)
        await play.say("hello? hello?", by=EVE)
        await play.until_idle()
        assert len(play.shown()) == 1
        play.sql("UPDATE pairs SET expires_at = 0")
        await play.say(f"/pair {first}", by=ANN)
        await play.reply("Unknown or expired pairing code.")
        await play.say("anybody there?", by=EVE)
        refusal = "You are not on the allowlist"
        await play.channel.until(lambda memory: sum(refusal in text for text in play.shown()) == 2)


async def test_an_approved_user_may_write_in_groups_too(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=PAIRING) as play:
        code = await code_for(play, EVE)
        await play.say(f"/pair {code}", by=ANN)
        await play.reply("Approved: Eve (`66`) may now write to me.")
        await play.say("bot, hello", address=GROUP, by=EVE)
        await play.reply("You said: bot, hello")
        follows = inbound("go on", address=replace(GROUP, thread="1"), addressed=False, follows=True, by=EVE)
        assert await play.deliver(follows) == [None]


async def test_no_pairing_codes_are_sent_in_groups(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=PAIRING) as play:
        await play.say("bot, hello", address=GROUP, by=EVE)
        await play.until_idle()
        assert play.shown() == []


async def test_beyond_a_thousand_pairing_codes_the_oldest_becomes_invalid(tmp_path: Path) -> None:
    async with open_store(engines.url(tmp_path / "test.db")) as store:
        people = [Sender(str(number), "Somebody") for number in range(MAX_PENDING + 1)]
        requests = [await store.request_pairing("memory", sender, "session", PLACE) for sender in people]
        first, last = requests[0], requests[-1]
        assert first is not None
        assert last is not None
        assert last.pending == MAX_PENDING
        assert await store.approve_pairing(first.pairing.code) is None
        assert await store.approve_pairing(last.pairing.code) is not None
        assert await store.request_pairing("memory", people[0], "session", PLACE) is not None


@pytest.mark.parametrize("kind", ["edited", "withdrawn"])
async def test_edits_and_deletions_by_unknown_people_are_not_answered(tmp_path: Path, kind: str) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("7")) as play:
        await play.deliver(inbound("other words", kind=kind, id="unknown", by=EVE))  # type: ignore[arg-type]  # both are
        await play.until_idle()
        assert play.shown() == []


@pytest.mark.parametrize("kind", ["edited", "withdrawn"])
async def test_edits_and_deletions_in_a_foreign_thread_are_not_stored_and_admit_nobody(
    tmp_path: Path, kind: str
) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("*")) as play:
        change = inbound("words", address=THREAD, addressed=False, kind=kind)  # type: ignore[arg-type]  # from parametrize
        talk = inbound("what do you think, Bob?", address=THREAD, addressed=False, follows=True)
        assert await play.deliver(change) == [None]
        assert await play.deliver(talk) == [None]
        assert play.states() == {}


async def test_a_refused_message_does_not_open_a_thread_for_others(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=only("7")) as play:
        await play.deliver(inbound("bot, come in", address=THREAD, by=EVE))
        talk = inbound("what do you think, Bob?", address=THREAD, addressed=False, follows=True)
        assert await play.deliver(talk) == [None]


# What strangers cannot have stored


@pytest.mark.parametrize("address", [PLACE, GROUP])
async def test_deletions_by_strangers_store_nothing(tmp_path: Path, address: Address) -> None:
    """Neither in a chat of their own nor in a group that the bot works in."""
    async with playing(tmp_path, ScriptedModel(), policies=only("7")) as play:
        if address is GROUP:
            await play.say("hi", address=GROUP)
            await play.reply("You said: hi")
        before = play.sql("SELECT count(*) FROM inbox")
        for _ in range(20):
            assert await play.deliver(inbound(kind="withdrawn", address=address, by=EVE)) == [None]
        assert play.sql("SELECT count(*) FROM inbox") == before


async def test_a_deletion_whose_author_the_platform_does_not_name_withdraws_the_message(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel([gate, "Done."]), policies=only("7", busy="queue")) as play:
        await play.deliver(inbound("go", address=GROUP))
        await play.deliver(inbound("oops", address=GROUP, id="oops"))
        await play.deliver(inbound(kind="withdrawn", address=GROUP, id="oops", by=Sender("", "")))
        assert play.states()["withdrawn"] == 1
        gate.set()
        await play.reply("Done.")


class Strict:
    """A hook that denies every message."""

    async def __aenter__(self) -> Strict:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def ask(self, point: str, context: HookContext, subject: Subject) -> object:
        return Deny("no")


async def test_an_unpaired_stranger_whom_a_hook_denies_is_counted_and_told_once(tmp_path: Path) -> None:
    hooks = HookChain([RegisteredHook("strict", Strict(), ("on_message",), timeout=60.0)])
    policies = only(admins=frozenset({"7"}), pair=True)
    async with playing(tmp_path, ScriptedModel(), policies=policies, hooks=hooks) as play:
        for _ in range(20):
            await play.deliver(inbound("let me in", by=EVE))
        await play.reply("Your pairing code is")
        assert play.sql("SELECT count(*) FROM inbox WHERE sender_id = '66'") == [(1,)]
        assert play.sql("SELECT messages FROM strangers WHERE sender_id = '66'") == [(20,)]
        assert not [text for text in play.shown() if "rejected" in text]
