"""Steps: what is so before anything happens, and the gateway's own beginning and end."""

from __future__ import annotations

from dataclasses import replace

from gateway.store.background import Limits
from tests.scenarios.hooks import NoSuchHook
from tests.scenarios.hooks import declared as declared_hook
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


@step("models to choose from: {text}", "given")
async def models_to_choose_from(world: World, text: str) -> None:
    """Others that a conversation, a task or a hook may ask for by their names."""
    world.given.choice = tuple(text.split(", "))


@step("transient errors are retried", "given")
async def retries(world: World) -> None:
    """Each model is asked again after such an error, without a pause."""
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


@step("most calls in the background: {number}", "given")
async def most_in_background(world: World, number: str) -> None:
    """How many calls of the conversation may go on in the background."""
    world.given.background = Limits(running=int(number))


@step("replies are shown when they are complete", "given")
async def shown_whole(world: World) -> None:
    """People see nothing of an answer that still grows."""
    world.given.unstreamed = frozenset({"memory"})


@step("people are told when this many messages wait: {number}", "given")
async def told_of_many(world: World, number: str) -> None:
    """From so many unread messages on."""
    world.given.many = int(number)


@step("hooks: {block}", "given")
async def these_hooks(world: World, block: tuple[str, ...]) -> None:
    """The hooks there are, one a line: `guard before_tool of change denies: not today`. They may `answers`, `asks`,
    `denies`, `ends` or `stops` for a reason; `writes` other arguments, a note to a message or a word to the model;
    `supplies` a whole result, as JSON; `calls: look {"path": "a"}` in a call's place; `replaces: old by new`;
    `hides: tool`; `uses: model`; or `breaks`. What one `answers, trusted: …` needs no approval."""
    try:
        world.given.hooks += [declared_hook(line) for line in block if line]
    except NoSuchHook as error:
        raise Wrong(str(error)) from error


@step("a secret: {text}", "given")
async def a_secret(world: World, text: str) -> None:
    """Words that must not leave the gateway."""
    world.given.secrets += (text,)


@step("nobody decides in time", "given")
async def nobody_decides(world: World) -> None:
    """The time to decide is over as soon as it begins."""
    world.given.approval_timeout = 0.0


@step("the model's window: {number} tokens", "given")
async def window(world: World, number: str) -> None:
    """When a conversation is too long for it, the model `small` is asked to sum it up."""
    world.given.window = int(number)


@step("each model call costs ${text}", "given")
async def each_call_costs(world: World, text: str) -> None:
    """In dollars, and that is what it is expected to cost."""
    world.given.call_cost = float(text)


@step("a task may cost ${text}", "given")
async def a_task_may_cost(world: World, text: str) -> None:
    """The limit of a turn, in dollars."""
    world.given.spending = replace(world.given.spending, turn=float(text))


@step("a person may spend ${text} a day", "given")
async def a_person_may_spend(world: World, text: str) -> None:
    """The limit of a person, in dollars."""
    world.given.spending = replace(world.given.spending, person_daily=float(text))


@step("calls are shown: {name}", "given")
async def calls_are_shown(world: World, name: str) -> None:
    """What people see of tool calls: off, quiet (as without this step) or full."""
    world.given.shows = replace(world.given.shows, activity=name)  # type: ignore[arg-type]  # an unknown one shows none


@step("reasoning is shown", "given")
async def reasoning_is_shown(world: World) -> None:
    """People see what the model thinks."""
    world.given.shows = replace(world.given.shows, reasoning=True)


@step("the gateway is killed")
async def killed(world: World) -> None:
    """Everything in it ends where it stands; what runs is accounted for by that."""
    await world.gateway()
    await world.kill()


@step("the gateway starts again")
async def starts_again(world: World) -> None:
    """On the same database and with the same replies."""
    if world.play is not None:
        raise Wrong("the gateway is running already")
    await world.start()
