"""Steps: what is so before anything happens, and the gateway's own beginning and end."""

from __future__ import annotations

from tests.scenarios.steps import PEOPLE, step
from tests.scenarios.tools import NoSuchTool, declared
from tests.scenarios.world import GROUP, SENDERS, World, Wrong


@step("tools: {text}", "given")
async def these_tools(world: World, text: str) -> None:
    """The tools there are, one a line: `look(path) reads, at most 5 s`, or the name of one of the product's."""
    try:
        world.given.tools += [declared(line, world.ring_run) for line in text.splitlines() if line]
    except NoSuchTool as error:
        raise Wrong(str(error)) from error


@step("models: {text}", "given")
async def these_models(world: World, text: str) -> None:
    """The chain of models by their names: each stands in for the one before. Without it there is one, `model`."""
    world.given.models = tuple(text.split(", "))


@step("troubles that pass are tried again", "given")
async def retries(world: World) -> None:
    """Each model is asked again after such a trouble, without a pause."""
    world.given.retries = True


@step("in a group", "given")
async def in_a_group(world: World) -> None:
    """All talk takes place in a group."""
    world.given.place = GROUP


@step("while busy: {name}", "given")
async def while_busy(world: World, name: str) -> None:
    """What messages do to a running turn: steer (as without this step), queue, collect or interrupt."""
    world.given.busy = name  # type: ignore[assignment]  # the gateway refuses what is none


@step("admins: {text}", "given")
async def admins(world: World, text: str) -> None:
    """Who may do what others may not."""
    unknown = set(text.split(", ")) - set(PEOPLE)
    if unknown:
        raise Wrong(f"nobody is called {unknown}; there are: {', '.join(PEOPLE)}")
    world.given.admins = frozenset(SENDERS[name].id for name in text.split(", "))


@step("most steps: {number}", "given")
async def most_steps(world: World, number: str) -> None:
    """How many model calls a turn may make after a person's last words."""
    world.given.max_steps = int(number)


@step("most turns at once: {number}", "given")
async def most_turns(world: World, number: str) -> None:
    """How many conversations may have a running turn."""
    world.given.most_running = int(number)


@step("people are told when this many messages wait: {number}", "given")
async def told_of_many(world: World, number: str) -> None:
    """From so many unread messages on."""
    world.given.many = int(number)


@step("the gateway is killed")
async def killed(world: World) -> None:
    """Everything in it ends where it stands; what runs is accounted for by that."""
    await world.gateway()
    await world.kill()


@step("the gateway starts again")
async def starts_again(world: World) -> None:
    """On the same database and with the same paper."""
    if world.play is not None:
        raise Wrong("the gateway is running already")
    await world.start()
