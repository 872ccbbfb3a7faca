"""The local Discord, driven by the real discord.py: what a bot is told, may do and is refused."""

import asyncio
import io
import re
import shutil
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
import yarl
from PIL import Image

from tests.servers.discord import BOB, MESSAGE_CONTENT, PRIVILEGED, Discord, Person, Place, Upload

with warnings.catch_warnings():  # of the standard library's audioop, which the SDK imports
    warnings.simplefilter("ignore", DeprecationWarning)
    import discord
    from discord.gateway import DiscordWebSocket
    from discord.http import Route

CAROL = Person(9, "Carol", username="carol_c")


class Bot(discord.Client):
    """A client that keeps what it is told, by the name of the event."""

    def __init__(self, intents: discord.Intents, **options: Any) -> None:
        super().__init__(intents=intents, guild_ready_timeout=0.01, **options)
        self.heard: dict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        super().dispatch(event, *args, **kwargs)
        self.heard[event].put_nowait(args[0] if len(args) == 1 else args)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """The SDK's own waits five seconds before each session but the first."""

    async def next(self, event: str) -> Any:
        async with asyncio.timeout(60):
            return await self.heard[event].get()

    async def next_message(self) -> discord.Message:
        """The next message of somebody else's."""
        while True:
            message: discord.Message = await self.next("message")
            if message.author != self.user or message.type is not discord.MessageType.default:
                return message


def intents(*, content: bool = True, **others: bool) -> discord.Intents:
    wanted = discord.Intents.default()
    wanted.message_content = content
    for name, value in others.items():
        setattr(wanted, name, value)
    return wanted


@asynccontextmanager
async def running(server: Discord, wanted: discord.Intents | None = None, **options: Any) -> AsyncIterator[Bot]:
    """A client that is logged in and ready; how it ended is awaited by whoever expects it to."""
    bot = Bot(wanted or intents(), **options)
    life = asyncio.create_task(bot.start(server.token))
    try:
        await bot.next("ready")
        yield bot
    finally:
        await bot.close()
        await life


@pytest.fixture
async def server() -> AsyncIterator[Discord]:
    async with Discord(interaction_seconds=60) as server:  # a machine may be slow; who wants it shorter says so
        point_at(server)
        yield server


def point_at(server: Discord) -> None:
    Route.BASE = server.api_url
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(server.gateway_url)


@pytest.fixture
async def bot(server: Discord) -> AsyncIterator[Bot]:
    server.channel()
    async with running(server) as bot:
        yield bot


@pytest.fixture
def team(server: Discord) -> Place:
    return server.channel()


def room(bot: Bot, place: Place) -> discord.PartialMessageable:
    return bot.get_partial_messageable(place.id)


def view(*buttons: tuple[str, str]) -> discord.ui.View:
    found = discord.ui.View(timeout=None)
    for label, custom_id in buttons:
        found.add_item(discord.ui.Button(label=label, custom_id=custom_id))
    return found


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(out, "PNG")
    return out.getvalue()


# ----------------------------------------------------------------------------------------------------------- logging in


async def test_the_bot_learns_who_it_is_and_where(server: Discord, bot: Bot) -> None:
    assert bot.user is not None
    assert (bot.user.name, bot.application_id) == ("interject", int(server.me["id"]))
    assert [(guild.name, [channel.name for channel in guild.text_channels]) for guild in bot.guilds] == [
        ("Team", ["general"])
    ]
    assert (await bot.application_info()).flags.gateway_message_content_limited


async def test_a_wrong_token_is_refused_by_the_api(server: Discord) -> None:
    bot = Bot(intents())
    with pytest.raises(discord.LoginFailure):
        await bot.start("wrong")
    await bot.close()
    assert [(refusal.route, refusal.status) for refusal in server.refusals] == [("GET /users/@me", 401)]


@pytest.mark.parametrize("code", [4004, 4014])
async def test_an_identify_can_be_refused(server: Discord, code: int) -> None:
    server.gateway.refuse_identify(code)
    bot = Bot(intents())
    with pytest.raises((discord.ConnectionClosed, discord.PrivilegedIntentsRequired)):
        await bot.start(server.token)
    await bot.close()


@pytest.mark.parametrize(("shard", "count", "code"), [(3, 3, 4010), (0, 1, 4011), (0, 2, None)])
async def test_a_shard_that_is_none_and_too_few_shards_are_refused(shard: int, count: int, code: int | None) -> None:
    async with Discord(shards=2) as server:
        server.least_shards = 2
        point_at(server)
        bot = Bot(intents(), shard_id=shard, shard_count=count)
        if code is None:
            async with running(server, shard_id=shard, shard_count=count):
                assert server.gateway.connected_shards == [(0, 2)]
            return
        with pytest.raises(discord.ConnectionClosed) as refused:
            await bot.start(server.token)
        await bot.close()
        assert refused.value.code == code


async def test_each_shard_is_told_of_its_guilds_and_the_first_of_direct_messages() -> None:
    async with Discord(shards=2) as server:
        point_at(server)
        rooms = []
        for shard in range(2):
            server.guild(f"Club {shard}", shard=shard)
            rooms.append(server.channel("general", guild=f"Club {shard}"))
        async with (
            running(server, shard_id=0, shard_count=2) as first,
            running(server, shard_id=1, shard_count=2) as second,
        ):
            assert [[guild.name for guild in each.guilds] for each in (first, second)] == [["Club 0"], ["Club 1"]]
            for place in (rooms[1], rooms[0], server.direct()):
                await place.say(f"in {place.name or 'direct'}")
            assert (await second.next_message()).channel.id == rooms[1].id
            assert (await first.next_message()).channel.id == rooms[0].id
            assert (await first.next_message()).guild is None
            assert second.heard["message"].empty()


async def test_who_identifies_too_early_in_a_bucket_gets_no_session() -> None:
    async with Discord(shards=2, identify_seconds=0.5) as server:
        point_at(server)
        async with running(server, shard_id=0, shard_count=2), running(server, shard_id=1, shard_count=2):
            assert [each["shard"] for each in server.gateway.early][:1] == [[1, 2]]
    async with Discord(shards=2, max_concurrency=2, identify_seconds=60) as server:
        point_at(server)
        async with running(server, shard_id=0, shard_count=2), running(server, shard_id=1, shard_count=2):
            assert server.gateway.early == []
            assert server.starts_left == 998


async def test_an_intent_that_was_not_granted_closes_the_connection() -> None:
    async with Discord(allowed_intents=PRIVILEGED & ~MESSAGE_CONTENT) as server:
        point_at(server)
        bot = Bot(intents())
        with pytest.raises(discord.PrivilegedIntentsRequired):
            await bot.start(server.token)
        await bot.close()


async def test_a_guild_and_a_channel_made_later_are_told(server: Discord, bot: Bot) -> None:
    server.channel("news", guild="Club")
    assert (await bot.next("guild_join")).name == "Club"
    assert (await bot.next("guild_channel_create")).name == "news"


async def test_members_come_on_request_when_that_intent_was_asked_for(server: Discord, team: Place) -> None:
    async with running(server, intents(members=True)) as bot:
        assert {member.display_name for member in bot.guilds[0].members} == {"Interject", "Ann", "Bob"}
        assert (await bot.guilds[0].query_members(user_ids=[7]))[0].name == "ann"


# ----------------------------------------------------------------------------------------------------------- being told


async def test_a_direct_message_arrives(server: Discord, bot: Bot) -> None:
    said = await server.direct(CAROL).say("hi")
    message = await bot.next("message")
    assert (message.content, message.id, message.guild) == ("hi", int(said["id"]), None)
    assert (message.author.name, message.author.display_name) == ("carol_c", "Carol")


async def test_a_message_in_a_channel_arrives_with_mentions(server: Discord, bot: Bot, team: Place) -> None:
    assert team.guild
    role = team.guild.role("ops", [BOB])
    team.guild.nicks[8] = "Bobby"
    await team.say(f"<@{server.me['id']}> ask <@8>, <@&{role}> in <#{team.id}> @everyone", by=BOB)
    message = await bot.next("message")
    assert message.guild.name == "Team"
    assert [user.id for user in message.mentions] == [int(server.me["id"]), 8]
    assert [found.name for found in message.role_mentions] == ["ops"]
    assert [found.name for found in message.channel_mentions] == ["general"]
    assert message.mention_everyone
    assert (message.author.display_name, [found.name for found in message.author.roles]) == (
        "Bobby",
        ["@everyone", "ops"],
    )


async def test_a_reply_carries_what_it_answers(server: Discord, bot: Bot, team: Place) -> None:
    asked = await team.say("why?")
    await team.say("because", by=BOB, reply_to=asked)
    await team.delete(asked)
    await team.say("gone", by=BOB, reply_to=asked)
    _, answered, orphan = await bot.next("message"), await bot.next("message"), await bot.next("message")
    assert answered.type is discord.MessageType.reply
    assert (answered.reference.resolved.content, [user.id for user in answered.mentions]) == ("why?", [7])
    assert isinstance(orphan.reference.resolved, discord.DeletedReferencedMessage)


async def test_files_arrive_and_can_be_fetched_until_their_links_expire(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("look", files=[Upload("a b.txt", b"text"), Upload("p.png", png(), "a square")])
    first, second = (await bot.next("message")).attachments
    assert (first.filename, await first.read()) == ("a b.txt", b"text")
    assert (second.content_type, second.description, second.width) == ("image/png", "a square", 8)
    server.expire_links()
    with pytest.raises(discord.NotFound):
        await first.read()
    again = await room(bot, team).fetch_message(int(said["id"]))
    assert await again.attachments[1].read() == png()
    assert len(server.called("GET /attachments/**")) == 3


async def test_a_voice_message_has_a_flag_and_a_length(server: Discord, bot: Bot) -> None:
    await server.direct().voice(b"opus", seconds=2.5)
    message = await bot.next("message")
    assert (message.flags.voice, message.attachments[0].duration) == (True, 2.5)
    assert message.attachments[0].is_voice_message()


async def test_stickers_forwards_webhooks_and_other_bots_are_marked(server: Discord, bot: Bot, team: Place) -> None:
    original = await team.say("the origin", files=[Upload("a.txt", b"x")])
    await team.sticker("wave")
    await server.direct().forward(original)
    await team.webhook("CI", "build failed")
    await team.say("beep", by=Person(99, "Robot", bot=True))
    await bot.next("message")
    sticker, forward, hook, robot = [await bot.next("message") for _ in range(4)]
    assert [item.name for item in sticker.stickers] == ["wave"]
    assert (forward.content, forward.message_snapshots[0].content) == ("", "the origin")
    assert await forward.message_snapshots[0].attachments[0].read() == b"x"
    assert (hook.webhook_id, hook.author.name, hook.author.bot) == (5150, "CI", True)
    assert (robot.author.bot, robot.webhook_id) == (True, None)


async def test_joins_and_pins_are_system_messages(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("remember")
    await team.pin(said, by=BOB)
    await team.join(CAROL)
    await bot.next("message")
    pin, join = await bot.next("message"), await bot.next("message")
    assert (pin.type, join.type) == (discord.MessageType.pins_add, discord.MessageType.new_member)
    assert (pin.is_system(), join.author.display_name) == (True, "Carol")
    assert (await bot.next("raw_message_edit")).message.edited_at is None
    assert [found.content async for found in room(bot, team).pins()] == ["remember"]


async def test_an_edit_is_told_whole_and_a_preview_has_no_edit_time(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("tpyo https://example.org/")
    await team.unfurl(said)
    await team.edit(said, "typo")
    unfurled, edited = await bot.next("raw_message_edit"), await bot.next("raw_message_edit")
    assert (unfurled.message.content, unfurled.message.edited_at) == ("tpyo https://example.org/", None)
    assert len(unfurled.message.embeds) == 1
    assert (edited.message.content, edited.message.author.id) == ("typo", 7)
    assert edited.message.edited_at is not None


async def test_deletions_are_told_one_by_one_and_in_bulk(server: Discord, bot: Bot, team: Place) -> None:
    one, two, three = [await team.say(word) for word in ("one", "two", "three")]
    await team.delete(two)
    await team.delete_bulk([one, three])
    assert (await bot.next("raw_message_delete")).message_id == int(two["id"])
    assert (await bot.next("raw_bulk_message_delete")).message_ids == {int(one["id"]), int(three["id"])}
    assert team.log == {}


async def test_reactions_and_typing_of_people_are_told(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("nice?")
    await team.react(said, "👍", by=BOB)
    await team.unreact(said, "👍", by=BOB)
    await team.type(by=BOB)
    added, removed = await bot.next("raw_reaction_add"), await bot.next("raw_reaction_remove")
    assert (str(added.emoji), added.user_id, added.message_id) == ("👍", 8, int(said["id"]))
    assert removed.user_id == 8
    assert (await bot.next("raw_typing")).user_id == 8


async def test_a_repeated_message_comes_twice(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("once")
    await team.repeat(said)
    assert (await bot.next("message")).id == (await bot.next("message")).id


async def test_without_the_content_intent_only_direct_messages_and_mentions_can_be_read(
    server: Discord, team: Place
) -> None:
    async with running(server, intents(content=False)) as bot:
        await team.say("secret", files=[Upload("a.txt", b"x")])
        await team.say(f"<@{server.me['id']}> open")
        await server.direct().say("direct")
        messages = [await bot.next("message") for _ in range(3)]
        assert [message.content for message in messages] == ["", f"<@{server.me['id']}> open", "direct"]
        assert messages[0].attachments == []


async def test_only_what_was_asked_for_is_sent(server: Discord, team: Place) -> None:
    async with running(server, intents(guild_messages=False, reactions=False)) as bot:
        said = await team.say("unheard")
        await team.react(said, "👍")
        await server.direct().say("heard")
        assert (await bot.next("message")).content == "heard"
        assert bot.heard["raw_reaction_add"].empty()


# -------------------------------------------------------------------------------------------------------------- threads


async def test_a_thread_from_a_message_has_its_id(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("the topic")
    thread = await team.thread("Talk", from_message=said)
    await thread.say("inside")
    await bot.next("message")
    created, starter, inside = await bot.next("thread_create"), await bot.next("message"), await bot.next("message")
    assert (created.id, created.name, created.parent_id) == (int(said["id"]), "Talk", team.id)
    assert starter.type is discord.MessageType.thread_starter_message
    assert starter.reference.resolved.content == "the topic"
    assert (inside.channel.id, inside.channel.name) == (thread.id, "Talk")
    assert (await bot.next("raw_message_edit")).message.flags.has_thread


async def test_a_thread_without_a_message_is_announced_where_it_was_opened(
    server: Discord, bot: Bot, team: Place
) -> None:
    await team.thread("Loose", by=BOB)
    message = await bot.next("message")
    assert (message.type, message.content) == (discord.MessageType.thread_created, "Loose")


async def test_an_archived_thread_is_unknown_to_the_client_until_somebody_speaks(
    server: Discord, bot: Bot, team: Place
) -> None:
    thread = await team.thread("Old", archived=True)
    assert await bot.guilds[0].active_threads() == []
    await bot.next("message")
    await thread.say("still here")
    message = await bot.next("message")
    assert (message.content, type(message.channel)) == ("still here", discord.PartialMessageable)
    assert (await bot.next("raw_thread_update")).thread_id == thread.id
    assert [found.id for found in await bot.guilds[0].active_threads()] == [thread.id]


async def test_the_bot_starts_a_thread_once_and_speaks_in_it(server: Discord, bot: Bot, team: Place) -> None:
    await team.say("start here")
    message = await bot.next("message")
    thread = await message.create_thread(name="Mine")
    await thread.send("hello")
    assert (await server.until(lambda server: server.places.get(message.id))).texts == ["hello"]
    with pytest.raises(discord.HTTPException) as refused:
        await message.create_thread(name="Again")
    assert refused.value.code == 160004


async def test_a_post_of_a_forum_is_a_thread_with_its_first_message(server: Discord, bot: Bot) -> None:
    forum = server.forum("ideas")
    assert (await bot.next("guild_channel_create")).type is discord.ChannelType.forum
    thread = await forum.thread("A gateway", text="What if")
    message = await bot.next("message")
    assert (message.id, message.channel.id, message.content) == (thread.id, thread.id, "What if")


# ----------------------------------------------------------------------------------------------------------- the screen


async def test_what_the_bot_sends_is_on_screen(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("show me")
    sent = await room(bot, team).send(
        "  **here** <@8> @everyone ",
        reference=discord.MessageReference(message_id=int(said["id"]), channel_id=team.id),
        files=[discord.File(io.BytesIO(b"a"), "a.txt"), discord.File(io.BytesIO(png()), "p.png", description="teal")],
        embed=discord.Embed(title="T"),
        view=view(("Stop", "stop:1"), ("Yes", "answer:q:1:0")),
        nonce="turn-1-segment-1",
        allowed_mentions=discord.AllowedMentions.none(),
    )
    shown = await team.hear("here")
    assert (shown.id, shown.content, shown.reply_to) == (sent.id, "**here** <@8> @everyone", int(said["id"]))
    assert shown.files == [Upload("a.txt", b"a"), Upload("p.png", png(), "teal")]
    assert [(button.label, button.custom_id, button.style) for button in shown.buttons] == [
        ("Stop", "stop:1", 2),
        ("Yes", "answer:q:1:0", 2),
    ]
    assert shown.embeds[0]["title"] == "T"
    assert (shown.nonce, shown.allowed_mentions) == ("turn-1-segment-1", {"parse": []})
    assert shown.pings == frozenset()
    assert sent.nonce == "turn-1-segment-1"
    await bot.next("message")
    assert (await bot.next("message")).author == bot.user


async def test_pings_follow_allowed_mentions(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("ping?")
    reference = discord.MessageReference(message_id=int(said["id"]), channel_id=team.id)
    await room(bot, team).send("<@8> @here", reference=reference)
    await room(bot, team).send("<@8>", allowed_mentions=discord.AllowedMentions(users=[BOB], everyone=False))
    assert [shown.pings for shown in team.messages] == [{"8", "here", "7"}, {"8"}]


async def test_an_edit_changes_what_stands_and_can_take_buttons_and_files_away(
    server: Discord, bot: Bot, team: Place
) -> None:
    file = discord.File(io.BytesIO(b"a"), "a.txt")
    sent = await room(bot, team).send("one", file=file, view=view(("Stop", "stop:1")))
    await sent.edit(content="two")
    shown = team.messages[0]
    assert (shown.content, len(shown.buttons), len(shown.files)) == ("two", 1, 1)
    await sent.edit(view=None, attachments=[discord.File(io.BytesIO(b"b"), "b.txt", description="letters")])
    assert (shown.content, shown.buttons, shown.files) == ("two", [], [Upload("b.txt", b"b", "letters")])
    assert [edit.content for edit in shown.edits] == ["two"]
    assert (await bot.next("raw_message_edit")).message.content == "two"


async def test_a_nonce_shows_once(server: Discord, bot: Bot, team: Place) -> None:
    first = await room(bot, team).send("same", nonce="key")
    again = await room(bot, team).send("same", nonce="key")
    assert (first.id, len(team.messages)) == (again.id, 1)
    await first.delete()
    with pytest.raises(discord.NotFound) as refused:
        await room(bot, team).send("same", nonce="key")
    assert refused.value.code == 10008


async def test_the_bot_deletes_its_own_messages_only(server: Discord, bot: Bot) -> None:
    direct = server.direct()
    said = await direct.say("mine")
    sent = await room(bot, direct).send("yours")
    await sent.delete()
    assert (direct.messages, [shown.content for shown in direct.deleted]) == ([], ["yours"])
    with pytest.raises(discord.Forbidden) as refused:
        await room(bot, direct).get_partial_message(int(said["id"])).delete()
    assert refused.value.code == 50003
    with pytest.raises(discord.Forbidden) as refused:
        await room(bot, direct).get_partial_message(int(said["id"])).edit(content="no")
    assert refused.value.code == 50005


async def test_the_bot_reacts_and_types(server: Discord, bot: Bot, team: Place) -> None:
    said = await team.say("work")
    message = await bot.next("message")
    await message.add_reaction("👀")
    await message.add_reaction("✅")
    assert team.reactions_on(said) == ["👀", "✅"]
    await message.remove_reaction("👀", bot.user)
    async with message.channel.typing():
        assert len(team.typing) == 1
    assert team.reactions_on(said) == ["✅"]
    assert [(reaction.emoji, reaction.added) for reaction in team.reacted] == [
        ("👀", True),
        ("✅", True),
        ("👀", False),
    ]
    assert [(str(found.emoji), found.me) for found in (await message.fetch()).reactions] == [("✅", True)]
    with pytest.raises(discord.HTTPException) as refused:
        await message.add_reaction("eyes")
    assert refused.value.code == 10014


async def test_a_channel_can_be_read_in_pages(server: Discord, bot: Bot, team: Place) -> None:
    ids = [int((await team.say(str(number)))["id"]) for number in range(130)]
    channel = room(bot, team)
    after = [
        message.content
        async for message in channel.history(after=discord.Object(ids[9]), limit=None, oldest_first=True)
    ]
    assert after == [str(number) for number in range(10, 130)]
    before = [message.content async for message in channel.history(before=discord.Object(ids[3]), limit=2)]
    assert before == ["2", "1"]
    around = [message.content async for message in channel.history(around=discord.Object(ids[50]), limit=3)]
    assert sorted(around) == ["49", "50", "51"]


async def test_the_bot_opens_a_direct_channel(server: Discord, bot: Bot) -> None:
    direct = server.direct(CAROL)
    user = await bot.fetch_user(CAROL.id)
    await user.send("hello Carol")
    assert direct.texts == ["hello Carol"]
    assert (await bot.fetch_channel(direct.id)).recipient == user


async def test_hearing_takes_words_patterns_and_functions(server: Discord, bot: Bot, team: Place) -> None:
    async with asyncio.TaskGroup() as group:
        heard = group.create_task(team.hear(re.compile(r"fo+")))
        await room(bot, team).send("bar")
        await room(bot, team).send("foo")
    assert heard.result().content == "foo"
    with pytest.raises(TimeoutError, match="on screen"):
        await team.hear("bar", timeout=0.01)


# ------------------------------------------------------------------------------------------------------------- refusals


async def test_a_message_must_be_within_the_limits(server: Discord, bot: Bot, team: Place) -> None:
    channel = room(bot, team)
    many = view(*((str(number), "same") for number in range(2)))
    too_much: list[tuple[int, dict[str, Any]]] = [
        (50006, {"content": "  \n"}),
        (50035, {"content": "x" * 2001}),
        (50035, {"content": "x", "view": many}),
        (50035, {"content": "x", "view": view(("x" * 81, "a"))}),
        (50035, {"embeds": [discord.Embed(description="x" * 3500)] * 2}),
        (50035, {"content": "x", "nonce": "n" * 26}),
        (50035, {"content": "x", "reference": discord.MessageReference(message_id=5, channel_id=team.id)}),
        (40005, {"file": discord.File(io.BytesIO(bytes(10 * 1024 * 1024 + 1)), "big.bin")}),
    ]
    for code, options in too_much:
        with pytest.raises(discord.HTTPException) as refused:
            await channel.send(**options)
        assert refused.value.code == code
    assert team.messages == []
    gone = discord.MessageReference(message_id=5, channel_id=team.id, fail_if_not_exists=False)
    await channel.send("x" * 2000, reference=gone)
    assert team.messages[0].reply_to is None


async def test_what_is_not_there_is_unknown(server: Discord, bot: Bot, team: Place) -> None:
    with pytest.raises(discord.NotFound) as refused:
        await bot.get_partial_messageable(5).send("x")
    assert refused.value.code == 10003
    with pytest.raises(discord.NotFound) as refused:
        await room(bot, team).get_partial_message(5).edit(content="x")
    assert refused.value.code == 10008


async def test_a_place_can_be_closed_to_the_bot(server: Discord, bot: Bot, team: Place) -> None:
    direct = server.direct()
    team.block()
    direct.block()
    for place, code in ((team, 50013), (direct, 50007)):
        with pytest.raises(discord.Forbidden) as refused:
            await room(bot, place).send("x")
        assert refused.value.code == code
    team.hide()
    with pytest.raises(discord.Forbidden) as refused:
        await room(bot, team).fetch_message(5)
    assert refused.value.code == 50001
    team.unblock()
    await room(bot, team).send("back")
    assert team.texts == ["back"]


async def test_a_thread_is_closed_with_its_channel_and_a_removed_one_is_unknown(
    server: Discord, bot: Bot, team: Place
) -> None:
    thread = await team.thread("Talk")
    team.hide()
    with pytest.raises(discord.Forbidden):
        await room(bot, thread).send("x")
    team.unblock()
    await thread.remove()
    assert (await bot.next("raw_thread_delete")).thread_id == thread.id
    with pytest.raises(discord.NotFound) as refused:
        await room(bot, thread).send("x")
    assert refused.value.code == 10003
    await team.remove()
    assert (await bot.next("guild_channel_delete")).id == team.id


async def test_a_layout_shows_its_texts_and_buttons_and_takes_no_content(
    server: Discord, bot: Bot, team: Place
) -> None:
    layout = discord.ui.LayoutView(timeout=None)
    button: discord.ui.Button[Any] = discord.ui.Button(label="Stop", custom_id="stop:1")
    layout.add_item(discord.ui.Container(discord.ui.TextDisplay("in a box"), discord.ui.ActionRow(button)))
    await room(bot, team).send(view=layout)
    shown = await team.hear("in a box")
    assert (shown.content, [found.custom_id for found in shown.buttons]) == ("", ["stop:1"])
    with pytest.raises(discord.HTTPException) as refused:
        await room(bot, team).send("words", view=layout)
    assert refused.value.code == 50035


# --------------------------------------------------------------------------------------------------------- interactions


async def test_a_pressed_button_is_deferred_and_followed_up(server: Discord, bot: Bot, team: Place) -> None:
    sent = await room(bot, team).send("run", view=view(("Stop", "stop:1")))
    pressed = await team.press(sent.id, "stop:1", by=BOB)
    interaction = await bot.next("interaction")
    assert (interaction.type, interaction.data["custom_id"]) == (discord.InteractionType.component, "stop:1")
    assert (interaction.user.id, interaction.message.id, interaction.channel.id) == (8, sent.id, team.id)
    await interaction.response.defer()
    assert await pressed.until_answered() == 6
    await interaction.edit_original_response(content="stopped", view=None)
    await interaction.followup.send("only you see this", ephemeral=True)
    assert [(shown.content, shown.ephemeral, shown.buttons) for shown in team.messages] == [
        ("stopped", False, []),
        ("only you see this", True, []),
    ]
    assert list(team.log) == [sent.id]
    assert pressed.followups == [team.messages[1].id]


async def test_a_button_on_a_message_that_only_one_person_sees_can_be_pressed(
    server: Discord, bot: Bot, team: Place
) -> None:
    await team.command("ask", stale=True)
    interaction = await bot.next("interaction")
    await interaction.response.send_message("which?", ephemeral=True, view=view(("A", "a")))
    await team.press(team.messages[0].id, "a")
    pressed = await bot.next("interaction")
    assert pressed.message.flags.ephemeral
    await pressed.response.edit_message(content="A", view=None)
    assert (team.texts, team.log) == (["A"], {})


async def test_a_button_answers_by_changing_its_message(server: Discord, bot: Bot) -> None:
    direct = server.direct()
    sent = await room(bot, direct).send("which?", view=view(("A", "a")))
    pressed = await direct.press(sent.id, "a")
    interaction = await bot.next("interaction")
    await interaction.response.edit_message(content="A it is", view=None)
    assert (interaction.user.id, pressed.answer, direct.texts) == (7, 7, ["A it is"])
    with pytest.raises(LookupError):
        await direct.press(sent.id, "a")
    assert (await direct.press(sent.id, "a", stale=True)).answer is None


async def test_a_command_is_registered_and_used(server: Discord, bot: Bot, team: Place) -> None:
    options = [{"type": 3, "name": "text", "description": "What to queue", "required": True}]
    commands = [{"name": "queue", "description": "Say it after", "options": options}]
    await bot.http.bulk_upsert_global_commands(bot.application_id, commands)
    assert [command["name"] for command in await bot.http.get_global_commands(bot.application_id)] == ["queue"]
    used = await team.command("queue", text="later")
    interaction = await bot.next("interaction")
    assert interaction.data["options"] == [{"name": "text", "type": 3, "value": "later"}]
    await interaction.response.defer(ephemeral=True, thinking=True)
    assert used.shown
    assert (used.answer, used.shown.loading, used.shown.ephemeral) == (5, True, True)
    await interaction.edit_original_response(content="queued")
    assert (used.shown.content, used.shown.loading) == ("queued", False)
    await interaction.delete_original_response()
    assert team.messages == []
    with pytest.raises(LookupError):
        await team.command("unknown")
    with pytest.raises(discord.HTTPException) as refused:
        await bot.http.bulk_upsert_global_commands(bot.application_id, [{"name": "Bad Name", "description": "x"}])
    assert refused.value.code == 50035


async def test_a_command_can_be_answered_at_once_but_only_once(server: Discord, bot: Bot, team: Place) -> None:
    used = await team.command("status", stale=True)
    interaction = await bot.next("interaction")
    await interaction.response.send_message("all is well")
    assert (used.answer, used.shown and used.shown.content) == (4, "all is well")
    assert (await interaction.original_response()).content == "all is well"
    answer = f"{server.api_url}/interactions/{used.id}/{used.token}/callback"
    async with aiohttp.ClientSession() as session, session.post(answer, json={"type": 5}) as second:
        assert (second.status, (await second.json())["code"]) == (400, 40060)


async def test_an_interaction_dies_unless_it_is_answered_in_time(server: Discord, bot: Bot, team: Place) -> None:
    used = await team.command("status", stale=True)
    used.expire()
    interaction = await bot.next("interaction")
    with pytest.raises(discord.NotFound) as unknown:
        await interaction.response.defer()
    assert unknown.value.code == 10062
    server.interaction_seconds = 0.0
    await team.command("status", stale=True)
    with pytest.raises(discord.NotFound):
        await (await bot.next("interaction")).response.defer()


async def test_an_answered_interaction_ends_one_day(server: Discord, bot: Bot, team: Place) -> None:
    used = await team.command("status", stale=True)
    interaction = await bot.next("interaction")
    await interaction.response.defer(thinking=True)
    await interaction.followup.send("the first follow-up fills it")
    assert (team.texts, used.followups) == (["the first follow-up fills it"], [])
    used.expire()
    with pytest.raises(discord.HTTPException) as refused:
        await interaction.edit_original_response(content="late")
    assert (refused.value.status, refused.value.code) == (401, 50027)


# ------------------------------------------------------------------------------------------------- sessions of gateways


async def lose_connection(server: Discord, how: str) -> None:
    match how:
        case "drop":
            server.gateway.drop()
        case "op 7":
            server.gateway.reconnect()
        case "op 9 true":
            server.gateway.invalidate(resumable=True)
        case _:
            server.gateway.close(int(how))


@pytest.mark.parametrize("how", ["drop", "op 7", "op 9 true", "4000", "1000", "1001"])
async def test_a_lost_connection_resumes_and_misses_nothing(server: Discord, bot: Bot, team: Place, how: str) -> None:
    await team.say("before")
    await bot.next("message")
    outage = server.gateway.refuse() if how == "drop" else None
    await lose_connection(server, how)
    for number in range(3):
        await team.say(f"away {number}")
    if outage:
        outage.release()
    assert [(await bot.next("message")).content for _ in range(3)] == ["away 0", "away 1", "away 2"]
    await bot.next("resumed")
    assert (len(server.gateway.identifies), len(server.gateway.resumes)) == (1, 1)
    assert bot.heard["message"].empty()


@pytest.mark.parametrize("how", ["op 9 false", "forgotten"])
async def test_a_new_session_gets_nothing_of_the_past(server: Discord, bot: Bot, team: Place, how: str) -> None:
    with server.gateway.refuse():
        await team.say("lost")
        server.gateway.forget()
    await bot.next("ready")
    if how == "op 9 false":
        server.gateway.invalidate()
        await bot.next("ready")
    await team.say("found")
    assert (await bot.next("message")).content == "found"
    assert [message.content async for message in room(bot, team).history(oldest_first=True)] == ["lost", "found"]


async def test_a_heartbeat_that_is_not_answered_ends_the_connection() -> None:
    async with Discord(heartbeat_ms=20) as server:
        point_at(server)
        async with running(server, heartbeat_timeout=0.2) as bot:
            await server.until(lambda server: server.gateway.heartbeats > 3)
            server.gateway.acking = False
            await server.until(lambda server: 4000 in server.gateway.close_codes)
            server.gateway.acking = True
            await bot.next("resumed")


async def test_a_malformed_event_reaches_the_client(server: Discord, team: Place) -> None:
    bot = Bot(intents())
    life = asyncio.create_task(bot.start(server.token))
    await bot.next("ready")
    server.gateway.push_raw("MESSAGE_CREATE", {"id": "1"})
    with pytest.raises(KeyError):
        await life
    await bot.close()


async def test_the_server_stops_and_starts_again_where_it_was(server: Discord, bot: Bot, team: Place) -> None:
    await server.stop()
    await team.say("meanwhile")
    await server.start()
    assert (await bot.next("message")).content == "meanwhile"
    assert server.gateway.resumes


async def test_an_outage_closes_everything_until_it_is_over(server: Discord, bot: Bot, team: Place) -> None:
    with server.refuse():
        with pytest.raises((aiohttp.ClientError, OSError)):
            await room(bot, team).send("x")
        await team.say("meanwhile")
    assert (await bot.next("message")).content == "meanwhile"
    assert team.messages == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [("nonsense", 4002), ('{"op": 3, "d": {}}', 4003), ('{"op": 2, "d": {"token": "x", "intents": 0}}', 4004)],
)
async def test_the_gateway_closes_on_what_it_does_not_take(server: Discord, sent: str, code: int) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.gateway_url}?v=10&encoding=json") as gateway,
    ):
        assert (await gateway.receive_json(timeout=60))["op"] == 10
        await gateway.send_str(sent)
        await gateway.receive(timeout=60)
        assert gateway.close_code == code


async def test_a_client_that_sends_too_much_is_closed(server: Discord) -> None:
    url = f"{server.gateway_url}?v=10&encoding=json"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as gateway:
        await gateway.send_json({"op": 2, "d": {"token": server.token, "intents": 0}})
        for _ in range(120):
            await gateway.send_json({"op": 3, "d": {}})
        async for _ in gateway:
            pass
        assert gateway.close_code == 4008


async def test_zstd_is_a_stream_that_every_decoder_takes(server: Discord, team: Place) -> None:
    if (zstd := shutil.which("zstd")) is None:
        pytest.skip("no zstd to decode with")
    url = f"{server.gateway_url}?v=10&encoding=json&compress=zstd-stream"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as gateway:
        packed = (await gateway.receive(timeout=60)).data
        await gateway.send_json({"op": 2, "d": {"token": server.token, "intents": 1 << 9 | 1 << 15}})
        packed += (await gateway.receive(timeout=60)).data
        await team.say("x" * 150_000)
        packed += (await gateway.receive(timeout=60)).data
    read = await asyncio.create_subprocess_exec(
        zstd, "-dc", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    text, _ = await read.communicate(packed)  # it complains of the end, which a stream has not got
    assert (text.count(b'"READY"'), text.count(b'"MESSAGE_CREATE"'), text.count(b"x" * 150_000)) == (1, 1, 1)


# --------------------------------------------------------------------------------------------------------------- faults


async def test_a_call_can_be_refused_in_any_way(server: Discord, bot: Bot, team: Place) -> None:
    server.fail_next("POST /channels/*/messages", 403, code=50013)
    server.fail_next("POST /channels/*/messages", 503, place=team)
    with pytest.raises(discord.Forbidden):
        await room(bot, team).send("x")
    await server.direct().say("elsewhere")
    await room(bot, server.direct()).send("not the place")
    with pytest.raises(discord.DiscordServerError):
        await room(bot, team).send("x")
    await room(bot, team).send("x")
    assert [refusal.status for refusal in server.refusals] == [403, 503]
    assert len(server.called("POST /channels/*/messages")) == 4


@pytest.mark.parametrize("scope", ["user", "shared", "global"])
async def test_a_rate_limit_is_waited_for(server: Discord, bot: Bot, team: Place, scope: str) -> None:
    server.fail_next("POST /channels/*/messages", 429, retry_after=0.01, scope=scope)
    await room(bot, team).send("patience")
    assert [(refusal.status, refusal.route) for refusal in server.refusals] == [
        (429, f"POST /channels/{team.id}/messages")
    ]
    assert team.texts == ["patience"]


async def test_a_bucket_is_told_in_the_headers_and_enforced(server: Discord, bot: Bot, team: Place) -> None:
    server.limit("POST /channels/*/messages", 2, 0.3)
    for number in range(5):
        await room(bot, team).send(str(number))
    assert team.texts == ["0", "1", "2", "3", "4"]
    server.limit("POST /channels/*/messages", 2, 600.0)
    answers = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bot {server.token}"}) as session:
        for _ in range(3):
            async with session.post(f"{server.api_url}/channels/{team.id}/messages", json={"content": "x"}) as answer:
                answers.append((answer.status, answer.headers.get("X-RateLimit-Remaining")))
                last = await answer.json()
    assert answers == [(200, "1"), (200, "0"), (429, None)]
    assert 0 < last["retry_after"] <= 600


async def test_the_usual_limits_hold_when_asked_for() -> None:
    async with Discord(rate_limits=True) as server:
        place = server.direct()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bot {server.token}"}) as session:

            async def call(method: str, path: str) -> tuple[int, str | None]:
                body = {"content": "x"} if method == "POST" else None
                async with session.request(method, server.api_url + path, json=body) as answer:
                    return answer.status, answer.headers.get("X-RateLimit-Scope")

            sent = [await call("POST", f"/channels/{place.id}/messages") for _ in range(6)]
            assert sent == [(200, None)] * 5 + [(429, "user")]
            asked = [await call("GET", "/users/@me") for _ in range(200)]
            assert (429, "global") in asked


async def test_an_answer_can_be_lost_after_the_message_was_shown(server: Discord, bot: Bot, team: Place) -> None:
    server.drop_answer("POST /channels/*/messages")
    with suppress(aiohttp.ClientError, OSError):  # what it raises is the client's affair: it may repeat by itself
        await room(bot, team).send("once", nonce="key")
    await room(bot, team).send("once", nonce="key")
    assert team.texts == ["once"]


async def test_a_call_can_be_held_before_and_after_its_work(server: Discord, bot: Bot, team: Place) -> None:
    async with asyncio.TaskGroup() as group:
        with server.hold("POST /channels/*/messages") as door:
            group.create_task(room(bot, team).send("one"))
            await door.until_arrived()
            assert team.texts == []
        with server.hold("PATCH **", after=True) as door:
            sent = await team.hear("one")
            edit = group.create_task(room(bot, team).get_partial_message(sent.id).edit(content="two"))
            await door.until_arrived()
            assert (team.texts, edit.done()) == (["two"], False)


async def test_it_can_be_tried_by_hand() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.servers.discord", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    async with asyncio.timeout(60):
        assert b"ws://127.0.0.1" in await process.stdout.readline()
        await process.communicate(b"")
