"""Steps: what people write, send, change, take back and press."""

from __future__ import annotations

import re
from io import BytesIO

from PIL import Image

from channels.address import Address
from channels.message import FileRef, InboundMessage
from tests.gateway.play import ELSEWHERE, inbound, until
from tests.scenarios.steps import PEOPLE, step
from tests.scenarios.world import SENDERS, World, Wrong

_TALK = re.compile(f"(?P<person>{'|'.join(PEOPLE)}): (?P<text>.*)")


async def _deliver(world: World, *messages: InboundMessage) -> None:
    """A command that is given alone has been dealt with when this returns."""
    play = await world.gateway()
    accepted = await play.deliver(*messages)
    if len(messages) == 1 and messages[0].kind == "command" and accepted[0] is not None:
        given = "SELECT 1 FROM inbox WHERE id = ? AND command IS NOT NULL AND state = 'waiting'"
        row = accepted[0].id
        await until(lambda: not play.sql(given, row))


@step("{person}: {text}")
async def says(world: World, person: str, text: str) -> None:
    """A message, or a command."""
    await _deliver(world, world.message(person, text))


@step("{person} elsewhere: {text}")
async def says_elsewhere(world: World, person: str, text: str) -> None:
    """In another chat."""
    await _deliver(world, world.message(person, text, address=ELSEWHERE))


@step("at once: {block}")
async def at_once(world: World, block: tuple[str, ...]) -> None:
    """Several messages, begun in this order without waiting in between."""
    await _deliver(world, *(_talk(world, line) for line in block))


@step("just before that: {block}")
async def just_before(world: World, block: tuple[str, ...]) -> None:
    """Of a gateway that was killed: these messages were kept, and nothing had come of them yet."""
    if world.play is not None:
        raise Wrong("this stands behind `the gateway is killed`")
    for line in block:
        await world.keep(_talk(world, line))


def _talk(world: World, line: str) -> InboundMessage:
    match = _TALK.fullmatch(line)
    if match is None:
        raise Wrong(f"a message is written as `ann: words`, not as `{line}`")
    return world.message(match["person"], match["text"])


@step("{person} edits {quoted}: {text}")
async def edits(world: World, person: str, quoted: str, text: str) -> None:
    """An earlier message becomes this one."""
    await _deliver(world, _changed(world, quoted, person, "edited", text))


@step("{person} deletes {quoted}")
async def deletes(world: World, person: str, quoted: str) -> None:
    """An earlier message is taken back."""
    await _deliver(world, _changed(world, quoted, person, "withdrawn", ""))


def _changed(world: World, text: str, person: str, kind: str, new: str) -> InboundMessage:
    earlier = world.earlier(text)
    message = inbound(new, by=SENDERS[person], kind=kind, id=earlier.message_id, address=earlier.address)  # type: ignore[arg-type]  # our own two callers
    if new:
        world.spoken[new] = message
    return message


@step("{quoted} is delivered again")
async def delivered_again(world: World, quoted: str) -> None:
    """The platform was not sure whether it had been received."""
    await _deliver(world, world.earlier(quoted))


@step("{person} sends {name}: {text}")
async def sends(world: World, person: str, name: str, text: str) -> None:
    """A message with a file: a picture, or a text that says `The words of` its name."""
    await _send(world, person, name, text)


@step("{person} sends {name}")
async def sends_only(world: World, person: str, name: str) -> None:
    """A file without words."""
    await _send(world, person, name, "")


@step("{person} sends {name}, which is not available: {text}")
async def sends_in_vain(world: World, person: str, name: str, text: str) -> None:
    """A message with a file that the platform does not give."""
    await _deliver(world, world.message(person, text, files=(FileRef(f"no {name}", name),)))


async def _send(world: World, person: str, name: str, text: str) -> None:
    world.files[name] = file_named(name)
    await _deliver(world, world.message(person, text, files=(FileRef(name, name),)))


def file_named(name: str) -> bytes:
    """The same bytes for the same name."""
    if not name.endswith(".png"):
        return f"The words of {name}".encode()
    picture = BytesIO()
    Image.new("RGB", (8 + len(name), 8), "green").save(picture, "PNG")
    return picture.getvalue()


def repeated(text: str, count: int) -> str:
    """The words with a number behind them, line after line."""
    return "\n".join(f"{text} {line}" for line in range(1, count + 1))


@step("{person} presses: {text}")
async def presses(world: World, person: str, text: str) -> None:
    """The button with these words, of the newest question that is open and has it."""
    segment, number = await world.signal.until(lambda: world.question(text))
    await _deliver(world, _press(world, person, f"/answer {segment.key} {number}"))


@step("{person} presses stop")
async def presses_stop(world: World, person: str) -> None:
    """The stop button of the reply that is growing."""
    growing = await world.signal.until(
        lambda: next((reply for reply in reversed(world.replies.values()) if not reply.done), None)
    )
    await _deliver(world, _press(world, person, f"/stop {growing.id}"))


def _press(world: World, person: str, text: str) -> InboundMessage:
    place: Address = world.given.place
    return inbound(text, by=SENDERS[person], address=place)
