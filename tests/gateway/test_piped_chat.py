"""`interject chat` in a script: the real program, with its input from a pipe or a file, beside a gateway that runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.channels.contract.rows import read_by_model
from tests.gateway.stage import gateway
from tests.gateway.test_cli import Desk, Ended, gone
from tests.servers.models import Fail, ModelServer, Pause, Say


class Beside:
    """A conversation of the terminal: the page has it open, too."""

    def __init__(self, desk: Desk, link: str) -> None:
        self._desk = desk
        self._link = link

    @property
    def chat(self) -> tuple[str, ...]:
        return ("chat", "--url", self._link)

    async def pipes(self, text: str) -> Ended:
        return await self._desk.call(*self.chat, typed=text)

    async def says_on_the_page(self, text: str) -> None:
        async with self._page() as page:
            answer = await page.post("messages", json={"client_id": uuid4().hex, "text": text})
        assert answer.status_code == 200

    async def waits(self) -> None:
        """Returns when a message waits for the end of what runs."""
        async with asyncio.timeout(60), self._page() as page, page.stream("GET", "events") as events:
            async for line in events.aiter_lines():
                if '"waiting"' in line:
                    return

    def _page(self) -> httpx.AsyncClient:
        origin, _, token = self._link.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(
            base_url=f"{origin}/api/v1/conversations/web:local:terminal/", headers=headers, timeout=60
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@asynccontextmanager
async def beside(desk: Desk, models: ModelServer) -> AsyncIterator[Beside]:
    settings = desk.write(
        f'[agent]\nmodel = "openai:test"\nshutdown_grace = 0\n'
        f'[models.openai]\napi_key = "k"\nbase_url = "{models.openai_url}"\n[web]\nport = 0\n'
    )
    async with gateway(settings) as built:
        assert built.link is not None
        yield Beside(desk, built.link)


async def test_in_a_busy_conversation_a_pipe_waits_for_its_own_task_and_prints_only_its_answer(
    desk: Desk, models: ModelServer
) -> None:
    models.script([Say(["For the page, ", Pause(), "at length."])], Say("For the pipe."))
    async with beside(desk, models) as terminal:
        await terminal.says_on_the_page("tell me a story")
        await models.until_held()
        piped = asyncio.create_task(terminal.pipes("what is new?"))
        await terminal.waits()
        models.release()
        ended = await piped
    assert ended == Ended(0, "For the pipe.\n", "")
    assert not models.requests[0].disconnected
    assert [request.messages[-1].text for request in models.requests] == ["tell me a story", "what is new?"]


async def test_the_failure_of_a_piped_task_is_told_on_stderr_and_by_the_exit_code(
    desk: Desk, models: ModelServer
) -> None:
    models.script(Fail(401))
    async with beside(desk, models) as terminal:
        ended = await terminal.pipes("hello")
    assert (ended.code, ended.out) == (3, "")
    assert "I could not finish this" in ended.err
    assert "`/retry` tries again." in ended.err


async def test_that_a_piped_task_was_stopped_is_told_on_stderr_and_by_the_exit_code(
    desk: Desk, models: ModelServer
) -> None:
    models.script([Say(["So far\n\n", Pause(), "and on."])])
    async with beside(desk, models) as terminal:
        chat = await desk.start(*terminal.chat)
        try:
            assert chat.stdin is not None
            assert chat.stdout is not None
            assert chat.stderr is not None
            chat.stdin.write(b"do a long task")
            chat.stdin.close()
            first = await asyncio.wait_for(chat.stdout.readline(), 60)
            chat.send_signal(signal.SIGINT)
            rest, told = await asyncio.wait_for(asyncio.gather(chat.stdout.read(), chat.stderr.read()), 60)
            assert await chat.wait() == 4
        finally:
            await gone(chat)
    assert (first + rest).strip() == b"So far"
    assert "⏹" in told.decode()


async def test_a_file_of_several_lines_is_one_message(desk: Desk, models: ModelServer) -> None:
    models.script(Say("Read."))
    text = "Dear agent,\n\n  indented\n/stop is only a line here\nyours\n"
    source = desk.folder / "question.txt"
    source.write_text(text)
    async with beside(desk, models) as terminal:
        with source.open("rb") as file:
            chat = await desk.start(*terminal.chat, stdin=file.fileno())
            out, err = await asyncio.wait_for(chat.communicate(), 60)
    assert (chat.returncode, out, err) == (0, b"Read.\n", b"")
    (request,) = models.requests
    assert request.messages[-1].text.strip() == text.strip()


async def test_files_go_with_a_piped_text_or_alone(desk: Desk, models: ModelServer, tmp_path: Path) -> None:
    plan, list_ = tmp_path / "plan.txt", tmp_path / "list.txt"
    plan.write_text("First the roof.")
    list_.write_text("Nails.")
    models.script(Say("I see."), Say("I see it again."))
    async with beside(desk, models) as terminal:
        both = await desk.call(*terminal.chat, "--file", str(plan), "--file", str(list_), typed="read these")
        alone = await desk.call(*terminal.chat, "--file", str(plan), typed="")
    assert (both.code, both.out, alone.code, alone.out) == (0, "I see.\n", 0, "I see it again.\n")
    [first], [*_, second] = read_by_model(models.requests[0]), read_by_model(models.requests[1])
    assert first.index("[Text of the file plan.txt:\nFirst the roof.") < first.index("list.txt:\nNails.")
    assert "read these" in first
    assert second.startswith("[Text of the file plan.txt:\nFirst the roof.")


async def test_a_file_that_is_not_there_is_told_before_anything_is_sent(desk: Desk) -> None:
    ended = await desk.call("chat", "--file", "none.txt", typed="read this")
    assert (ended.code, ended.out, ended.err) == (1, "", "interject: There is no file none.txt\n")
