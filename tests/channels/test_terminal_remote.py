"""The terminal in front of a gateway that runs elsewhere: the wire, and a conversation over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.channel import ChannelRejected, Unreachable
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.terminal.printer import Files, Folders, Printer
from channels.terminal.remote import FindGateway, GatewayLink, RemoteGateway, check_reachable, parse_link
from channels.terminal.remote_events import changed, items_since, read_reply
from channels.terminal.render import Style
from channels.terminal.screen import PlainScreen
from config.load import load
from gateway.api.events import to_json
from gateway.api.items import reply_change, reply_item
from gateway.assembly.build import Built, build
from tests.gateway.stage import gateway as running_gateway
from tests.servers.models import Call, ModelServer, Say

WEB = Address("web", "local", "terminal")
CHART = Attachment("ab" * 32, "chart.png", "image/png", 10, 4, 4)

SEGMENTS = st.lists(
    st.one_of(
        st.builds(TextSegment, st.just("t"), st.text(max_size=8), open=st.booleans(), interrupted=st.booleans()),
        st.builds(MediaSegment, st.just("m"), st.just(CHART), st.text(max_size=4)),
        st.builds(
            CallSegment, st.just("c"), st.just("shell"), st.text(max_size=4), st.sampled_from(["running", "done"])
        ),
        st.builds(
            QuestionSegment,
            st.just("q:run_1_"),
            st.text(max_size=4),
            st.lists(st.text(max_size=2), max_size=2).map(tuple),
            open=st.booleans(),
            answer=st.text(max_size=2),
        ),
    ),
    max_size=5,
).map(lambda segments: tuple(replace(segment, key=f"{segment.key}{n}") for n, segment in enumerate(segments)))


def grown(segments: tuple[Segment, ...], more: str) -> tuple[Segment, ...]:
    match segments:
        case (*before, TextSegment(open=True) as last):
            return (*before, replace(last, markdown=last.markdown + more))
        case _:
            return segments


@settings(deadline=None)
@given(
    before=SEGMENTS,
    after=SEGMENTS,
    more=st.text(max_size=5),
    status=st.text(max_size=5),
    ends=st.tuples(st.booleans(), st.booleans()),
)
def test_what_the_gateway_tells_in_changes_is_what_the_terminal_has(
    before: tuple[Segment, ...], after: tuple[Segment, ...], more: str, status: str, ends: tuple[bool, bool]
) -> None:
    told = Reply("r", WEB, "m1", before)
    for now in (replace(told, segments=grown(before, more)), Reply("r", WEB, "m1", after, status, *ends)):
        change = json.loads(to_json(reply_change("web:local:terminal", told, now)))
        here = read_reply(json.loads(reply_item(told).model_dump_json()), WEB)
        assert changed(here, change) == now


def test_the_printed_link_says_where_the_gateway_is() -> None:
    assert parse_link("http://127.0.0.1:8321/?token=abc") == GatewayLink("http://127.0.0.1:8321", "abc")
    assert parse_link("http://[::1]:8321/?token=abc").origin == "http://[::1]:8321"


@pytest.mark.parametrize(
    "text", ["", "abc", "http://127.0.0.1:8321/", "ftp://x/?token=a", "http://[/?token=a", "http://x:99999/?token=a"]
)
def test_what_is_no_link_is_refused_in_words(text: str) -> None:
    with pytest.raises(ChannelRejected, match="Not a sign-in link"):
        parse_link(text)


# --- with the real gateway ---


class Gateway:
    """A demo gateway that can be stopped and started again, on the same port or on another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._task: asyncio.Task[None] | None = None
        self.link = GatewayLink("", "")

    async def start(self) -> None:
        file = self._folder / "interject.toml"
        file.write_text(f"[web]\nport = {self._port}\n")
        ready: asyncio.Future[Built] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(file, ready))
        built = await asyncio.wait_for(ready, 60)
        assert built.link is not None
        self.link = parse_link(built.link)
        self._port = int(self.link.origin.rpartition(":")[2])
        await check_reachable(self.link, seconds=60)

    async def _run(self, file: Path, ready: asyncio.Future[Built]) -> None:
        async with build(load(file, {}, self._folder / "home")) as built:
            ready.set_result(built)
            await built.gateway.run(*built.services)

    async def move(self) -> None:
        """Starts again on another port."""
        old, self._port = self.link, 0
        # Held, so that the free port is another one.
        async with await asyncio.start_server(_hang_up, "127.0.0.1", int(old.origin.rpartition(":")[2])):
            await self.start()
        assert self.link.origin != old.origin

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    gateway = Gateway(tmp_path)
    await gateway.start()
    yield gateway
    await gateway.stop()


class Screen(PlainScreen):
    """A pipe whose texts come from the test, which keeps what is printed and what troubles there were."""

    def __init__(self, folder: Path) -> None:
        self.printed: list[str] = []
        self.told: list[str] = []
        self.troubles: list[str] = []
        self._answered: set[str] = set()
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self._bell = asyncio.Event()

        async def out(text: str) -> None:
            self.printed.append(text)

        async def secondary(text: str) -> None:
            self.told.append(text)

        super().__init__(
            Printer(out, Style, Folders(folder / "pictures", folder / "files"), secondary=secondary),
            self._source(),
        )

    async def _source(self) -> AsyncIterator[str]:
        while True:
            yield await self._texts.get()

    def type(self, text: str) -> None:
        self._texts.put_nowait(text)

    def show_trouble(self, text: str) -> None:
        self.troubles.append(text)
        self._bell.set()

    async def show(self, reply: Reply, files: Files) -> None:
        await super().show(reply, files)
        self._answered |= {reply.id} if reply.done else set()
        self._bell.set()

    @property
    def text(self) -> str:
        return "".join(self.printed)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._bell.clear()
                await self._bell.wait()

    async def answered(self, count: int = 1) -> None:
        await self.until(lambda: len(self._answered) == count)


async def sit(link: GatewayLink, screen: Screen, where: FindGateway | None = None) -> asyncio.Task[None]:
    async def talk() -> None:
        async with RemoteGateway(link, screen, find=where) as gateway, asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.run())
            tasks.create_task(screen.run())

    return asyncio.create_task(talk())


async def leave(sitting: asyncio.Task[None]) -> None:
    sitting.cancel()
    await asyncio.gather(sitting, return_exceptions=True)


async def test_a_conversation_with_a_running_gateway(gateway: Gateway, tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    sitting = await sit(gateway.link, screen)
    screen.type("pie chart of 3, 5, 8")
    await screen.answered()
    await leave(sitting)
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"picture: {picture}" in screen.text
    assert "✓ draw_chart" in "".join(screen.told)


async def test_a_question_of_a_running_gateway_is_answered_with_a_number_also_by_the_next_to_come(
    tmp_path: Path, models: ModelServer
) -> None:
    models.script(
        Call("ask_user", {"question": "Which?", "options": ["Red", "Blue"]}),
        Call("ask_user", {"question": "Sure?", "options": ["Yes", "No"]}),
        Say("Painted."),
    )
    settings = tmp_path / "interject.toml"
    settings.write_text(
        f'[agent]\nmodel = "openai:test"\n[web]\nport = 0\n'
        f'[models.openai]\napi_key = "k"\nbase_url = "{models.openai_url}"\n'
    )
    async with running_gateway(settings) as built:
        assert built.link is not None
        link = parse_link(built.link)
        first = Screen(tmp_path)
        sitting = await sit(link, first)
        first.type("paint")
        await first.until(lambda: "2) Blue" in first.text)
        first.type("2")
        await first.until(lambda: "2) No" in first.text)
        await leave(sitting)
        second = Screen(tmp_path)
        sitting = await sit(link, second)
        await second.until(lambda: "2) No" in second.text)
        second.type("1")
        await second.answered()
        await leave(sitting)
    assert [request.messages[-1].text for request in models.requests] == ["paint", "Blue", "Yes"]
    assert first.text == "Which?\n1) Red\n2) Blue\n\nSure?\n1) Yes\n2) No\n"
    assert second.text == "Which?\n\nSure?\n1) Yes\n2) No\n\nPainted.\n"


@pytest.mark.parametrize(("since", "places"), [(0, [0, 1, 2, 3]), (2, [0, 1, 2, 3]), (3, [2, 3]), (4, [2, 3]), (9, [])])
def test_items_that_slide_into_a_snapshot_from_before_the_first_one_are_known(since: int, places: list[int]) -> None:
    items = [{"kind": "message", "id": 2}, {"kind": "reply"}, {"kind": "message", "id": 4}, {"kind": "reply"}]
    assert items_since(items, since) == [items[place] for place in places]


async def test_what_was_answered_before_is_not_printed_again(gateway: Gateway, tmp_path: Path) -> None:
    first = Screen(tmp_path)
    sitting = await sit(gateway.link, first)
    first.type("my name is Ann")
    await first.answered()
    await leave(sitting)
    second = Screen(tmp_path)
    sitting = await sit(gateway.link, second)
    second.type("what is my name?")
    await second.answered()
    await leave(sitting)
    assert "Ann" in second.text
    assert "built-in demo" in first.text
    assert "built-in demo" not in second.text


async def test_a_gateway_that_goes_and_comes_back_loses_nothing(gateway: Gateway, tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    sitting = await sit(gateway.link, screen)
    screen.type("hello")
    await screen.answered()
    await gateway.stop()
    await screen.until(lambda: any("not reachable" in trouble for trouble in screen.troubles))
    screen.type("pie chart of 3, 5, 8")
    await gateway.start()
    await screen.answered(2)
    await leave(sitting)
    assert screen.text.count("Here is the chart") == 1
    assert screen.text.count("Try one of these") == 1
    assert screen.troubles[-1] == ""


async def test_a_gateway_that_comes_back_elsewhere_is_found_again(gateway: Gateway, tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    sitting = await sit(gateway.link, screen, lambda: gateway.link)
    screen.type("hello")
    await screen.answered()
    await gateway.stop()
    await screen.until(lambda: any("not reachable" in trouble for trouble in screen.troubles))
    screen.type("pie chart of 3, 5, 8")
    await gateway.move()
    await screen.answered(2)
    await leave(sitting)
    assert screen.text.count("Here is the chart") == 1


async def test_a_wrong_token_is_refused_in_words(gateway: Gateway, tmp_path: Path) -> None:
    wrong = GatewayLink(gateway.link.origin, "wrong")
    with pytest.raises(ChannelRejected, match="token"):
        await check_reachable(wrong, seconds=60)
    async with RemoteGateway(wrong, Screen(tmp_path)) as remote:
        with pytest.raises(ExceptionGroup) as group:
            await asyncio.wait_for(remote.run(), 60)
    assert group.group_contains(ChannelRejected, match="token")


async def test_nobody_answers_at_a_free_port(gateway: Gateway) -> None:
    await gateway.stop()
    with pytest.raises(Unreachable, match="no gateway answers at"):
        await check_reachable(gateway.link)


async def test_a_server_that_never_answers_or_is_no_gateway_is_not_waited_for() -> None:
    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def say_something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    for behave in (stay_silent, say_something_else):
        async with await asyncio.start_server(behave, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(Unreachable):
                await check_reachable(GatewayLink(f"http://127.0.0.1:{port}", "any"), seconds=0.3)
