"""The web channel over HTTP: a real server, real requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from agent.media import Attachment
from channels.address import Address
from channels.channel import FileUnavailable
from channels.message import FileRef, InboundMessage, Receipt
from channels.reply import CallSegment, TextSegment
from tests.channels.test_web_render import apply
from tests.channels.web_gateway import TOKEN, Gateway, MemoryMedia, Served, png, served


@pytest.fixture
async def site() -> AsyncIterator[Served]:
    async with served(Gateway()) as site:
        yield site


class Screen:
    """Shows a conversation the way a client does: what the stream says, and nothing else."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.items: list[dict[str, Any]] = []
        self.statuses: dict[int, str] = {}
        self.happened: list[str] = []
        self.bytes = 0

    async def until(self, fits) -> None:
        async with asyncio.timeout(60):
            while not fits(self):
                await self.step()

    async def step(self) -> None:
        name = await self._field("event")
        data = json.loads(await self._field("data"))
        self.happened.append(name)
        match name:
            case "history":
                self.items = data["items"]
            case "message":
                self.items.append(data)
            case "status":
                self.statuses[data["id"]] = data["state"]
            case "reply":
                self.items = [i for i in self.items if i.get("reply", {}).get("id") != data["id"]]
                self.items.append({"kind": "reply", "reply": data})
            case "change":
                place = next(n for n, item in enumerate(self.items) if item.get("reply", {}).get("id") == data["id"])
                self.items[place] = {"kind": "reply", "reply": apply(self.items[place]["reply"], data)}

    async def _field(self, name: str) -> str:
        async for line in self._lines:
            self.bytes += len(line)
            if line.startswith(f"{name}: "):
                return line.removeprefix(f"{name}: ")
        raise EOFError

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [item["reply"] for item in self.items if item["kind"] == "reply"]

    @property
    def text(self) -> str:
        return "|".join(s["markdown"] for reply in self.replies for s in reply["segments"] if s["kind"] == "text")


@asynccontextmanager
async def screen(client: httpx.AsyncClient, chat: str) -> AsyncIterator[Screen]:
    async with client.stream("GET", f"/api/conversations/{chat}/events") as answer:
        assert answer.status_code == 200, await answer.aread()
        screen = Screen(answer.aiter_lines())
        await screen.until(lambda s: s.happened == ["history"])
        yield screen


async def post(
    client: httpx.AsyncClient, text: str, client_id: str = "client-0001", chat: str = "c1"
) -> httpx.Response:
    return await client.post(f"/api/conversations/{chat}/messages", json={"client_id": client_id, "text": text})


# Who may come in


async def test_the_printed_link_becomes_a_cookie_that_opens_the_page(site):
    async with httpx.AsyncClient(base_url=site.url) as browser:
        assert (await browser.get("/")).status_code == 401
        let_in = await browser.get(f"/?token={TOKEN}")
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
        cookie = let_in.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        page = await browser.get("/")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert (await browser.get("/api/conversations")).status_code == 200


async def test_without_the_token_the_page_says_what_to_do_and_the_api_says_no(site):
    async with httpx.AsyncClient(base_url=site.url) as stranger:
        assert "Open the link" in (await stranger.get("/")).text
        assert (await stranger.get("/?token=wrong")).status_code == 401
        for path in (
            "/api/conversations",
            "/api/conversations/c1",
            "/api/conversations/c1/events",
            f"/media/{'a' * 64}/x",
        ):
            answer = await stranger.get(path, headers={"Authorization": "Bearer wrong"})
            assert answer.status_code == 401
            assert "link" in answer.json()["error"]
        assert (await post(stranger, "hi")).status_code == 401
    assert site.gateway.heard == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.7", ""])
async def test_a_foreign_host_name_is_refused_so_that_rebinding_reads_nothing(site, host):
    async with site.client(Host=host) as client:
        assert (await client.get("/api/conversations")).status_code in (400, 403)


async def test_loopback_names_are_answered(site):
    for host in ("localhost:1234", "127.0.0.1", "[::1]:9"):
        async with site.client(Host=host) as client:
            assert (await client.get("/api/conversations")).status_code == 200


async def test_the_configured_host_is_answered_and_any_ip_when_all_are_bound():
    async with served(Gateway(), host="box.lan") as site, site.client(Host="box.lan:8321") as client:
        assert (await client.get("/api/conversations")).status_code == 200
    async with served(Gateway(), host="0.0.0.0") as site:
        async with site.client(Host="192.168.1.7:8321") as client:
            assert (await client.get("/api/conversations")).status_code == 200
        async with site.client(Host="evil.example") as client:
            assert (await client.get("/api/conversations")).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_foreign_page_can_not_post(site, origin):
    async with site.client(Origin=origin) as client:
        assert (await post(client, "hi")).status_code == 403
    assert site.gateway.heard == []


async def test_the_own_page_can_post(site):
    async with site.client(Origin=site.url) as client:
        assert (await post(client, "hi")).status_code == 200


# Messages in


async def test_a_message_is_answered_with_its_row_once_it_is_committed(site):
    async with site.client() as client:
        answer = await post(client, "Hello", chat="c1")
    kept = {"id": 1, "state": "waiting", "reason": "", "duplicate": False}
    assert answer.json() == kept | {"run": None, "conflicts": []}
    message = await site.gateway.hear()
    assert (message.text, message.address) == ("Hello", Address("web", "local", "c1"))


async def test_a_message_sent_again_with_its_id_is_kept_once(site):
    async with site.client() as client:
        answers = await asyncio.gather(*(post(client, "Hello") for _ in range(5)))
    assert len(site.gateway.heard) == 1
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False, True, True, True, True]


async def test_a_message_that_can_not_be_kept_says_why_and_may_come_again():
    async with served(Gateway(full=True)) as site, site.client() as client:
        answer = await post(client, "Hello")
        assert (answer.status_code, answer.json()) == (503, {"error": "The disk is full."})
        site.gateway.full = False
        assert (await post(client, "Hello")).status_code == 200


async def test_a_refused_message_says_why():
    async with served(Gateway(refuse="not today")) as site, site.client() as client:
        answer = (await post(client, "Hello")).json()
    assert (answer["state"], answer["reason"]) == ("refused", "not today")


async def test_before_the_gateway_listens_messages_and_streams_wait_outside():
    async with served(Gateway(), listening=False) as site, site.client() as client:
        for answer in (await post(client, "Hello"), await client.get("/api/conversations/c1/events")):
            assert answer.status_code == 503
            assert "try again" in answer.json()["error"]
        assert (await client.get("/api/conversations/c1")).json()["items"] == []


async def test_a_text_of_100_kb_arrives_whole(site):
    text = "wörd 😀 " * 12_000
    async with site.client() as client:
        files = {"client_id": (None, "client-0001"), "text": (None, text)}
        assert (await client.post("/api/conversations/c1/messages", files=files)).status_code == 200
    assert (await site.gateway.hear()).text == text


async def test_files_come_with_their_bytes_and_safe_names_and_may_be_empty(site):
    files = [
        ("files", ("../pic.png", png())),
        ("files", ("nothing.txt", b"")),
        ("files", (b"\xff\xfe.bin".decode("latin-1"), b"x")),
    ]
    async with site.client() as client:
        answer = await client.post(
            "/api/conversations/c1/messages", data={"client_id": "client-0001", "text": ""}, files=files
        )
        assert answer.status_code == 200, answer.text
    message = await site.gateway.hear()
    assert [file.name for file in message.files][:2] == ["pic.png", "nothing.txt"]
    assert [len(await site.gateway.channel.fetch(file)) for file in message.files] == [len(png()), 0, 1]


async def test_a_file_that_is_gone_is_unavailable(site):
    gone = Attachment("ab" * 32, "gone.txt", "text/plain", 1)
    ref = TypeAdapter(Attachment).dump_json(gone).decode()
    with pytest.raises(FileUnavailable, match=r"gone\.txt"):
        await site.gateway.channel.fetch(FileRef(ref, "gone.txt"))


async def test_too_much_at_once_is_refused_with_both_numbers():
    async with served(Gateway(), upload_limit=1_000_000) as site, site.client() as client:
        files = {"files": ("big.bin", b"x" * 5_000_000)}
        answer = await client.post("/api/conversations/c1/messages", data={"client_id": "client-0001"}, files=files)
    assert answer.status_code == 413
    assert "1,000,000" in answer.json()["error"]


async def test_a_file_that_the_store_finds_too_large_is_named():
    async with served(Gateway(media=MemoryMedia(limit=10))) as site, site.client() as client:
        answer = await client.post(
            "/api/conversations/c1/messages", data={"client_id": "client-0001"}, files={"files": ("big.bin", b"x" * 11)}
        )
    assert answer.status_code == 413
    assert "big.bin" in answer.json()["error"]
    assert site.gateway.heard == []


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"client_id": "client-0001", "text": "  "}},
        {"json": {"client_id": "x", "text": "hi"}},
        {"json": {"client_id": "client-0001", "text": "hi", "surprise": 1}},
        {"json": ["hi"]},
        {"content": b"\xff{", "headers": {"Content-Type": "application/json"}},
        {"content": b"--nonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"hi"},
    ],
)
async def test_a_malformed_post_gets_words_and_nothing_is_heard(site, request_):
    async with site.client() as client:
        answer = await client.post("/api/conversations/c1/messages", **request_)
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]
        assert (await client.get("/api/conversations/a%20b")).status_code == 400
    assert site.gateway.heard == []


async def test_a_lone_surrogate_in_json_does_not_break_the_store(site):
    async with site.client() as client:
        content = b'{"client_id": "client-0001", "text": "a\\ud800b\\u0000"}'
        answer = await client.post(
            "/api/conversations/c1/messages", content=content, headers={"Content-Type": "application/json"}
        )
    if answer.status_code == 200:
        (await site.gateway.hear()).text.encode()
    else:
        assert answer.json()["error"]


async def test_stop_is_a_command_that_shows_as_no_message(site):
    async with site.client() as client, screen(client, "c1") as shown:
        assert (await client.post("/api/conversations/c1/stop", json={"client_id": "client-0009"})).status_code == 200
        await site.gateway.say("c1", "r1", TextSegment("1.0", "Stopped."), done=True)
        await shown.until(lambda s: s.text == "Stopped.")
        assert "message" not in shown.happened
    assert (await site.gateway.hear()).command == "stop"


async def test_a_broken_gateway_answers_in_words_and_goes_on():
    class Broken(Gateway):
        async def deliver(self, message: InboundMessage) -> Receipt | None:
            if message.text == "break":
                raise OSError("disk full")
            return await super().deliver(message)

    async with served(Broken()) as site, site.client() as client:
        broken = await post(client, "break")
        assert (broken.status_code, "log" in broken.json()["error"]) == (500, True)
        assert (await post(client, "go on", "client-0002")).status_code == 200


# What the screen sees


async def test_a_reply_grows_on_the_screen_word_by_word(site):
    async with site.client() as client, screen(client, "c1") as shown:
        text = ""
        for word in ("Hello", " you", " 😀", " there"):
            text += word
            await site.gateway.say("c1", "r1", TextSegment("1.0", text, open=True), status="writing")
            await shown.until(lambda s, text=text: s.text == text)
        await site.gateway.say("c1", "r1", TextSegment("1.0", text), done=True)
        await shown.until(lambda s: s.replies[0]["done"])
        assert shown.happened == ["history", "reply", "change", "change", "change", "change"]
        assert shown.replies[0]["status"] == ""


async def test_a_person_sees_their_own_message_on_every_screen_and_its_marks(site):
    async with site.client() as client, screen(client, "c1") as here, screen(client, "c1") as there:
        await post(client, "Hello")
        await site.gateway.mark("c1", 1, "read", 3)
        for shown in (here, there):
            await shown.until(lambda s: s.statuses.get(1) == "read" and s.items)
            assert [(i["message_id"], i["text"]) for i in shown.items] == [("client-0001", "Hello")]


async def test_other_conversations_stay_quiet(site):
    async with site.client() as client, screen(client, "c1") as shown:
        await site.gateway.say("c2", "r2", TextSegment("1.0", "elsewhere"))
        await site.gateway.say("c1", "r1", TextSegment("1.0", "here"))
        await shown.until(lambda s: s.text)
        assert shown.text == "here"


async def test_a_screen_that_comes_back_shows_exactly_what_happened_meanwhile(site):
    async with site.client() as client:
        async with screen(client, "c1") as shown:
            await post(client, "Go")
            await site.gateway.say("c1", "r1", TextSegment("1.0", "one", open=True))
            await shown.until(lambda s: s.text == "one")
        await site.gateway.say("c1", "r1", TextSegment("1.0", "one two", open=True))
        await post(client, "And more", "client-0002")
        async with screen(client, "c1") as shown:
            assert [item["kind"] for item in shown.items] == ["message", "reply", "message"]
            assert shown.text == "one two"
            await site.gateway.say("c1", "r1", TextSegment("1.0", "one two three"), done=True)
            await shown.until(lambda s: s.text == "one two three")
            assert len(shown.items) == 3


async def test_nothing_is_missed_or_doubled_however_history_and_news_interleave():
    """Replies are shown while the history is being read, in every place where the reading waits."""

    class Slow(Gateway):
        async def history(self, address: Address):
            before = await super().history(address)
            await self.say("c1", "r1", TextSegment("1.0", "one two", open=True))
            await asyncio.sleep(0)
            return before

    gateway = Slow()
    async with served(gateway) as site, site.client() as client:
        await gateway.say("c1", "r1", TextSegment("1.0", "one", open=True))
        async with screen(client, "c1") as shown:
            await shown.until(lambda s: s.text == "one two")
            assert len(shown.replies) == 1


async def test_a_slow_reader_gets_the_newest_state_and_not_the_backlog(site):
    async with site.client() as client, screen(client, "c1") as shown:
        text = "x" * 2000
        for number in range(2000):
            await site.gateway.say("c1", "r1", TextSegment("1.0", f"{number} {text}", open=True))
        await site.gateway.say("c1", "r1", TextSegment("1.0", "the end"), done=True)
        await shown.until(lambda s: s.text == "the end")
        assert shown.bytes < 2_000_000


async def test_a_reader_that_fell_far_behind_is_given_the_history_anew(site):
    async with site.client() as client, screen(client, "c1") as shown:
        for number in range(700):
            await site.gateway.say("c1", f"r{number}", TextSegment("1.0", str(number)), done=True)
        await shown.until(lambda s: len(s.replies) == 700)
        assert shown.happened == ["history", "history"]
        assert shown.text == "|".join(map(str, range(700)))


async def test_new_clears_every_screen(site):
    async with site.client() as client, screen(client, "c1") as shown:
        await post(client, "Hello")
        await shown.until(lambda s: s.items)
        await post(client, "/new", "client-0002")
        await site.gateway.mark("c1", 2, "answered")
        await shown.until(lambda s: not s.items)


async def test_streams_end_when_the_channel_stops_listening():
    gateway = Gateway()
    async with served(gateway) as site, site.client() as client:
        async with client.stream("GET", "/api/conversations/c1/events") as answer:
            shown = Screen(answer.aiter_lines())
            await shown.step()
            await site.stop_listening()
            with pytest.raises(EOFError):
                await shown.until(lambda s: False)
        assert (await post(client, "Hello")).status_code == 503


async def test_the_list_of_conversations_shows_titles_and_what_runs(site):
    async with site.client() as client:
        await post(client, "First things first", chat="c1")
        await post(client, "Then this", "client-0002", chat="c2")
        await site.gateway.say("c2", "r1", CallSegment("1.1", "shell", "sleep 9", "running"))
        listed = (await client.get("/api/conversations")).json()
    assert [(each["chat"], each["title"], each["running"]) for each in listed["conversations"]] == [
        ("c2", "Then this", True),
        ("c1", "First things first", False),
    ]
    assert listed["commands"][0] == {"name": "stop", "help": "Stops what runs"}


# Media


async def test_a_picture_is_shown_and_everything_else_is_offered_for_saving(site):
    picture = await site.gateway.media.put(png(), "chart.png")
    html = await site.gateway.media.put(b"<script>alert(1)</script>", "a.html")
    async with site.client() as client:
        shown = await client.get(f"/media/{picture.hash}/chart.png?type=image/png")
        assert (shown.content, shown.headers["content-type"]) == (png(), "image/png")
        assert shown.headers["content-disposition"].startswith("inline")
        for kind in ("text/html", "image/svg+xml", ""):
            saved = await client.get(f"/media/{html.hash}/a.html?type={kind}")
            assert saved.headers["content-disposition"].startswith("attachment")
            assert saved.headers["content-type"] == "application/octet-stream"
            assert saved.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in saved.headers["content-security-policy"]


async def test_odd_names_and_missing_files_do_no_harm(site):
    kept = await site.gateway.media.put(b"x", "x")
    async with site.client() as client:
        odd = await client.get(f"/media/{kept.hash}/%2e%2e%2fa%20%3b%22%E2%80%AEb.txt")
        assert (odd.status_code, odd.headers["content-disposition"]) == (
            200,
            "attachment; filename*=UTF-8''a%20%3B%22b.txt",
        )
        split = await client.get(f"/media/{kept.hash}/%0d%0aSet-Cookie%3a%20a%3db")
        assert split.headers.get("set-cookie") is None
        for path in (f"/media/{'0' * 64}/x", "/media/nonsense/x", f"/media/{'Z' * 64}/x"):
            missing = await client.get(path)
            assert missing.status_code == 404
            assert missing.json()["error"]


async def test_there_is_nothing_else_to_find(site):
    async with site.client() as client:
        for path in ("/docs", "/openapi.json", "/page/../app.py", "/page/%2e%2e/app.py", "/page/", "/nothing"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert answer.json()["error"]
