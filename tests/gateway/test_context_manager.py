"""A context manager of the operator's in a whole gateway: the example, and broken ones of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.context.manager import ContextOptions
from agent.context.own_manager import OwnManagers
from agent.log import Compacted
from agent.masking import Mask
from agent.models.scripted import ScriptedModel
from agent.transcript import RenderedTurn, SystemNote
from tests.gateway.test_cli import Desk
from tests.gateway.test_from_settings import KEY, Person, asked, person
from tests.servers.models import ModelServer, Request, Say

ROOT = Path(__file__).parents[2]
EXAMPLE = f'context = "{ROOT}/examples/context/last_exchanges.py:LastExchanges"'
NOTE = "The exchanges before these are left out."
OWN = 'context = "own.py:Own"'

BASE = """\
import asyncio
from interject import BaseContextManager, Compacted

class Own(BaseContextManager):
"""


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        server.respond(lambda request: Say("Small words." if request.model == "small" else "Sheep."))
        yield server


def words(request: Request) -> str:
    return "\n".join(message.text for message in request.messages)


async def count(ann: Person, *numbers: int) -> None:
    for number in numbers:
        await ann.asks(f"Sheep number {number}, please.")


async def test_the_example_shows_the_model_the_last_exchanges_only(tmp_path: Path, models: ModelServer) -> None:
    async with person(tmp_path, models, agent=EXAMPLE) as ann:
        await count(ann, *range(6))
        assert NOTE not in words(asked(models, "big")[-1])
        await count(ann, 6, 7)
        shown = words(asked(models, "big")[-1])
        assert [number for number in range(8) if f"number {number}," in shown] == [2, 3, 4, 5, 6, 7]
        assert shown.count(NOTE) == 1
        assert "is summarized for the model" in await ann.asks("/compact")
        await count(ann, 8)
        # People still see everything.
        assert len([reply for reply in await ann.replies() if "Sheep." in str(reply)]) == 9
    shown = words(asked(models, "big")[-1])
    assert [number for number in range(9) if f"number {number}," in shown] == [8]
    assert shown.count(NOTE) == 1


async def test_a_restarted_gateway_shows_the_model_the_same(tmp_path: Path, models: ModelServer) -> None:
    async with person(tmp_path, models, agent=EXAMPLE) as ann:
        await count(ann, *range(7))
    async with person(tmp_path, models, agent=EXAMPLE) as ann:
        await count(ann, 7)
    shown = words(asked(models, "big")[-1])
    assert [number for number in range(8) if f"number {number}," in shown] == [2, 3, 4, 5, 6, 7]


async def test_the_model_is_not_shown_a_secret_in_a_summary(tmp_path: Path, models: ModelServer) -> None:
    (tmp_path / "own.py").write_text(
        f"{BASE}    async def compact(self, past, entries, **about):\n"
        f"        return [Compacted(1, past[-1].id, 'It was {KEY}.', foreign=('x',))] if past else []\n"
    )
    async with person(tmp_path, models, agent=OWN) as ann:
        await count(ann, 0, 1)
    shown = words(asked(models, "big")[-1])
    assert "It was [secret]." in shown
    assert "number 0" not in shown


BROKEN = {
    "raises": (f"raise ValueError('no luck with {KEY}')", "own.py:6: context manager, compact: ValueError: no luck"),
    "ends the process": ("raise SystemExit('bye')", "context manager, compact: it raised SystemExit: bye"),
    "cancels itself": ("raise asyncio.CancelledError", "context manager, compact: it cancelled itself"),
    "returns a text": ("return 'short'", "context manager, compact: it returned 'short', not a list of"),
    "names no turn": ("return [Compacted(1, 'elsewhere', '')]", "compact: there is no past turn elsewhere"),
    "names no step": ("return [Compacted(9, '', '')]", "compact: the turn has no step 9"),
    "two at once": ("return [Compacted(1, '', '')] * 2", "compact: it returned more than one Compacted"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_one_leaves_the_conversation_as_it_is(
    tmp_path: Path, models: ModelServer, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    body, told = BROKEN[kind]
    methods = ("async def compact(self, past, entries, **about)", "async def summarize(self, past, **about)")
    (tmp_path / "own.py").write_text(BASE + "".join(f"    {method}:\n        {body}\n" for method in methods))
    async with person(tmp_path, models, agent=OWN) as ann:
        await count(ann, 0, 1)
        refusal = await ann.asks("/compact")
    assert "The conversation was not summarized: the context manager failed" in refusal
    assert "number 0" in words(asked(models, "big")[-1])
    assert told in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("value", ["1 / 0", "'much'", "float('nan')", "True", "-1"])
async def test_a_share_and_a_window_that_are_none_are_ours(
    tmp_path: Path, models: ModelServer, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    (tmp_path / "own.py").write_text(
        f"{BASE}    def share(self, *here, **about):\n        return {value}\n"
        f"    def window(self, model=''):\n        return {value}\n"
    )
    async with person(tmp_path, models, agent=f"{OWN}\ncontext_window = 8000") as ann:
        await count(ann, 0)
        context = await ann.context()
    assert context["window"] == 8000
    assert 0 < context["share"] < 1
    assert "context manager, share: " in caplog.text
    assert "context manager, window: " in caplog.text


async def test_one_that_is_slow_is_cancelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "own.py").write_text(
        f"{BASE}    async def compact(self, past, entries, **about):\n        await asyncio.Event().wait()\n"
    )
    model = ScriptedModel()
    options = ContextOptions(8000, lambda name: 8000, model, reserve=0, full_at=0.8, keep=0.3, auto=True)
    manager = OwnManagers(f"{tmp_path}/own.py:Own", str, timeout=0.05).create(options)
    async with asyncio.timeout(10):
        found = await manager.compact((), (), instructions="", tools=(), on_delta=_fail)
    assert found == ()
    assert "context manager, compact: it took longer than 0.05 seconds" in caplog.text


async def _fail(delta: object) -> None:
    raise AssertionError(delta)


async def test_in_what_is_logged_secrets_are_masked_and_text_from_outside_stays_known(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        f"{BASE}    async def compact(self, past, entries, **about):\n"
        f"        return [Compacted(1, past[-1].id, 'Nothing from outside but {KEY}.')]\n"
    )
    options = ContextOptions(8000, lambda name: 8000, ScriptedModel(), reserve=0, full_at=0.8, keep=0.3, auto=True)
    manager = OwnManagers(f"{tmp_path}/own.py:Own", Mask([KEY])).create(options)
    past = (RenderedTurn("1", (SystemNote("Earlier.", summary=True, foreign=("https://elsewhere",)),)),)
    (found,) = await manager.compact(past, (), instructions="", tools=(), on_delta=_fail)
    assert found == Compacted(1, "1", "Nothing from outside but [secret].", foreign=("https://elsewhere",))


NO_OPTIONS = """\
class Own:
    def __init__(self): ...
    def window(self): ...
    def share(self): ...
    async def compact(self): ...
    async def summarize(self): ...
"""
RAISING = f"{BASE}    def __init__(self, options):\n        raise ValueError('{KEY}')\n"

UNUSABLE = {
    "no file": (None, "own.py: the context manager", "FileNotFoundError"),
    "not Python": ("class Own:\n    def\n", "own.py:2: the context manager", "SyntaxError"),
    "no such class": ("x = 1\n", "own.py: the context manager", "it has no Own"),
    "no class": ("Own = 3\n", "the context manager", "it is a int, not a class"),
    "raises": (RAISING, "own.py:6: ", "ValueError"),
    "takes no options": (NO_OPTIONS, "own.py:1: ", "TypeError"),
    "lacks a method": ("class Own:\n    def window(self): ...\n", "own.py:1: ", "it has no method share"),
    "not async": (f"{BASE}    def compact(self, **about): ...\n", "own.py:5: ", "compact must be an async method"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_check_says_why_it_cannot_be_used_and_where(tmp_path: Path, kind: str) -> None:
    code, place, why = UNUSABLE[kind]
    desk = Desk(tmp_path)
    desk.write(f'[agent]\n{OWN}\n[models.openai]\napi_key = "{KEY}"\n')
    if code is not None:
        desk.write(code, "own.py")
    ended = await desk.here("check")
    assert ended.code == 1
    (line,) = [line for line in ended.out.splitlines() if "!!  context manager: " in line]
    assert place in line
    assert why in line
    assert KEY not in ended.out + ended.err


async def test_check_says_that_it_can_be_used(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write(f"[agent]\n{EXAMPLE}\n")
    ended = await desk.here("check")
    assert (ended.code, "context manager: can be used" in ended.out) == (0, True)


async def test_the_gateway_does_not_start_with_one_that_cannot_be_used(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write(f"[agent]\n{OWN}\n[web]\nport = 0\n")
    desk.write("class Own: ...\n", "own.py")
    ended = await desk.call("run")
    assert ended.code == 1
    assert f"interject: {tmp_path}/own.py:1: the context manager" in ended.err
    assert "Traceback" not in ended.err


async def test_its_file_lies_apart_from_the_agents_files(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write('[agent]\ncontext = "work/own.py:Own"\nworkspace = "work"\n')
    ended = await desk.call("check")
    assert ended.code != 0
    assert "contains the context manager" in ended.out + ended.err
