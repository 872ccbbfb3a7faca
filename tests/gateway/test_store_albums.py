"""Messages that one act of a person made: edits of one leave the others, in a store on a real file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.log import MessagesRead
from channels.message import FileRef, InboundMessage
from gateway.store import Store
from tests.gateway.notes import SESSION, begin, finish, message, states

pytestmark = pytest.mark.engines


def album(text: str, id: str, name: str = "") -> InboundMessage:
    files = (FileRef(id, name),) if name else ()
    return replace(message(text, id=id, files=files, album="a"), cut=None if name else "\n")


@pytest.mark.parametrize(
    ("edited", "text"),
    [
        ("x", "one.jpg: new\nthree.jpg: a dog"),
        ("y", "one.jpg: a cat\ntwo.jpg: new\nthree.jpg: a dog"),
        ("z", "one.jpg: a cat\nthree.jpg: new"),
    ],
)
async def test_the_edit_of_one_caption_leaves_the_others(store: Store, edited: str, text: str) -> None:
    for part in (album("a cat", "x", "one.jpg"), album("", "y", "two.jpg"), album("a dog", "z", "three.jpg")):
        await store.accept(part, SESSION)
    for new in ("other", "new"):
        await store.accept(message(new, id=edited, kind="edited"), SESSION)
    assert await states(store) == {text: "waiting"}


@pytest.mark.parametrize(("edited", "text"), [("x", "new\ntwo"), ("y", "one\nnew")])
async def test_the_edit_of_one_part_of_a_text_leaves_the_others(store: Store, edited: str, text: str) -> None:
    for part in (album("one", "x"), album("\ntwo", "y")):
        await store.accept(part, SESSION)
    for new in ("other", "new"):
        await store.accept(message(new, id=edited, kind="edited"), SESSION)
    assert await states(store) == {text: "waiting"}


async def test_the_edit_of_a_part_after_the_answer_is_a_new_message(store: Store) -> None:
    carrier = await store.accept(album("one", "x"), SESSION)
    await store.accept(album("\ntwo", "y"), SESSION)
    await store.mark_ready(carrier.id, (), ())
    await finish(store, await begin(store))
    await store.accept(message("new", id="y", kind="edited"), SESSION)
    turn = await begin(store)
    [read] = [entry for entry in turn.entries if isinstance(entry, MessagesRead)]
    assert [(said.text, said.note) for said in read.messages] == [
        ("new", 'They edited this message after it had been answered. Before: "two"')
    ]
