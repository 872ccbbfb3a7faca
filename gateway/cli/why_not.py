"""`interject why-not`: walks the gates that a message passes, in the receiver's order, and says which one refuses it.

Asks the same functions as the receiver, and stores, sends and counts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NoReturn, assert_never

from sqlalchemy import Connection

from agent.hook import Deny, HookContext, MessageIn
from agent.hooks.chain import HookChain
from agent.hooks.runner import HookError
from agent.masking import Mask
from channels.address import Address, Membership, Sender
from channels.message import InboundMessage
from config.channels import BUILT_IN_CHANNELS
from config.errors import did_you_mean
from config.load import Configuration
from config.models import provider_and_name
from config.settings import every_secret
from gateway.assembly.agents import named_agents
from gateway.assembly.channels import access
from gateway.assembly.hooks import configured_hooks
from gateway.assembly.limits import spending_limits
from gateway.assembly.models import cost_of, default_model, provider_of
from gateway.cli.model_lists import address_of
from gateway.cli.output import fail, json_line, write_lines
from gateway.cli.running import channel_troubles, published_address
from gateway.inbound.access import AccessCheck, AccessPolicy, Gate
from gateway.inbound.api_keys import ApiKeys
from gateway.inbound.message_rate import WINDOW, MessageRate
from gateway.outbound.wording import plain, plain_person
from gateway.sessions import session_key
from gateway.store import api_keys, arrivals, costs, identities, read_only, reading, senders, sessions
from gateway.store.errors import StoreError
from gateway.store.records import AcceptOptions, ApiKey, UsageTotals
from gateway.turns.budgets import Budgets

Verdict = Literal["passed", "refused", "unknown", "note"]
"""`unknown`: it cannot be asked from here; `note`: it lets every message pass, and does this to it."""

_SIGNS: dict[Verdict, str] = {"passed": "ok", "refused": "!!", "unknown": "??", "note": "--"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that nobody has sent. `handle` None: that of the person's last message. `chat` None: the direct chat
    with the person."""

    channel: str
    user: str
    text: str
    chat: str | None = None
    thread: str | None = None
    addressed: bool = True
    handle: str | None = None
    groups: tuple[str, ...] = ()
    is_bot: bool = False
    membership: Membership = "member"
    ask_hooks: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What one gate says of the message, and how to change that."""

    gate: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Walk:
    """`findings` end with the first that refuses the message."""

    message: InboundMessage
    findings: tuple[Finding, ...]

    @property
    def is_refused(self) -> bool:
        return bool(self.findings) and self.findings[-1].verdict == "refused"


def why_not(configuration: Configuration, asked: Asked, *, as_json: bool) -> int:
    """Returns the exit code: 0 if the message would be answered, else 1."""
    try:
        walk = asyncio.run(_walk(configuration, asked))
    except (StoreError, HookError) as error:
        return fail(configuration, error)
    if as_json:
        write_lines(json_line(_json(each)) for each in walk.findings)
    else:
        write_lines(_lines(walk))
    return 1 if walk.is_refused else 0


def _json(finding: Finding) -> dict[str, str]:
    return {"gate": finding.gate, "verdict": finding.verdict, "text": finding.text, "advice": finding.advice}


def _lines(walk: Walk) -> Iterator[str]:
    for each in walk.findings:
        yield f"  {_SIGNS[each.verdict]}  {each.gate}: {each.text}"
        if each.advice:
            yield f"      {each.advice}"
    last = walk.findings[-1]
    yield f"Refused by: {last.gate}." if walk.is_refused else "The message is answered."


async def _walk(configuration: Configuration, asked: Asked) -> Walk:
    with read_only.reading(configuration.settings.store.url) as connection:
        walker = _Walker(configuration, asked, connection, await _policy(configuration, connection))
        findings: list[Finding] = []
        async for finding in walker.findings():
            findings.append(finding)
            if finding.verdict == "refused":
                break
        return Walk(walker.message, tuple(findings))


class _Walker:
    def __init__(
        self, configuration: Configuration, asked: Asked, connection: Connection, policy: AccessPolicy
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._asked = asked
        self._connection = connection
        self._section = "[web]" if asked.channel == "web" else f"[channels.{asked.channel}]"
        self._policy = policy
        self.message = _message(asked, connection)
        self._session = session_key(self.message.address)

    async def findings(self) -> AsyncIterator[Finding]:
        """In the order of the receiver."""
        yield self._channel()
        yield self._is_up()
        checked = self._policy.check(self.message)
        yield self._access(checked)
        self.message = replace(self.message, sender=replace(self.message.sender, level=checked.level))
        yield self._store(checked)
        yield self._rate()
        yield await self._hooks()
        for finding in (*self._debounce(), self._queue()):
            yield finding
        yield await self._limits()
        yield self._agent()

    # Gates

    def _channel(self) -> Finding:
        name = self._asked.channel
        if name in self._settings.channels or name in BUILT_IN_CHANNELS:
            return Finding("channel", "passed", f"{name} is configured")
        known = [*self._settings.channels, "web"]
        return Finding(
            "channel",
            "refused",
            f"there is no channel {plain(name)}. {did_you_mean(name, known)}".strip(),
            f"add {plain(self._section)} to the settings; there are: {', '.join(known)}",
        )

    def _is_up(self) -> Finding:
        if read_only.holder(self._settings.store.url) is None:
            return Finding("gateway", "refused", "no gateway runs for this data directory", "start it: interject run")
        address = published_address(self._configuration.home)
        troubles = channel_troubles(self._configuration, address) if address else None
        if troubles is None:
            text = "a gateway runs; it does not say whether the channel works"
            return Finding("gateway", "unknown", text, "/status in the web chat says so, and the gateway's log")
        trouble = troubles.get(self._asked.channel)
        if trouble is None:
            text = "the running gateway does not have this channel"
            return Finding("gateway", "refused", text, "restart it, or reload its settings")
        if trouble:
            return Finding("gateway", "refused", f"the channel does not work: {plain(trouble, 300)}")
        return Finding("gateway", "passed", "it runs, and the channel works")

    def _access(self, checked: AccessCheck) -> Finding:
        sender = plain_person(self.message.sender)
        if checked.gate is None:
            return Finding("access", "passed", self._admitted(checked, sender))
        text, advice = self._refused(checked.gate, sender)
        return Finding("access", "refused", text, advice)

    def _admitted(self, checked: AccessCheck, sender: str) -> str:
        if checked.admission in ("paired", "known and paired") or checked.only_by_name:
            return f"{sender} may be admitted, by pairing or by an @name; the store decides"
        role = self._policy.role_of(self._asked.channel, self.message.sender)
        return f"{sender} is admitted as {role}"

    def _refused(self, gate: Gate, sender: str) -> tuple[str, str]:
        match gate:
            case "key":
                advice = "interject keys list shows which there are; interject keys create makes one"
                return f"{sender} is a program whose key is unknown, revoked or expired, or may only read", advice
            case "bots":
                return (
                    f"{sender} is a bot or a webhook that is not listed by its id",
                    f'add "{plain(self._asked.user)}" to allow of {self._section}',
                )
            case "groups":
                return "the bot does not answer in groups", f'set groups = "mention" in {self._section}'
            case "mention":
                return (
                    "in groups the bot reads only messages that address it",
                    f'mention it, or set groups = "all" in {self._section}',
                )
            case "allowlist":
                return f"{sender} is on none of the lists", self._how_to_allow()
            case _:
                assert_never(gate)

    def _how_to_allow(self) -> str:
        user = plain(self._asked.user)
        names = sorted(self._policy.unresolved(self._asked.channel))
        unresolved = f"; not resolved to an id yet: {', '.join(names)}" if names else ""
        or_pair = "" if self._section == "[web]" else ", or set pair = true there"
        return f'add "{user}" to allow of {self._section}{or_pair}{unresolved}'

    def _store(self, checked: AccessCheck) -> Finding:
        options = AcceptOptions(
            checked.admission,
            names=checked.names,
            only_by_name=checked.only_by_name,
            named_level=checked.named_level,
            speaker=checked.speaker,
        )
        refusal = arrivals.refusal_of(self._connection, self.message, self._session, options)
        match refusal:
            case None:
                return Finding("known", "passed", "the store knows nothing against it")
            case arrivals.NOT_PAIRED:
                advice = "interject pair list shows requests; interject pair approve CODE admits the person"
            case arrivals.BOTS_IN_A_ROW:
                advice = "a person has to write in between"
            case arrivals.NOT_KNOWN:
                advice = f'address the bot there once, or set groups = "all" in {self._section}'
            case _:
                advice = self._how_to_allow()
        return Finding("known", "refused", refusal, advice)

    def _rate(self) -> Finding:
        limit = self._settings.limits.messages_per_minute
        rate, message = MessageRate(limit), self.message
        since = message.sent_at - WINDOW
        for sent_at in senders.sent_since(self._connection, self._asked.channel, self._asked.user, since):
            rate.take(replace(message, sent_at=sent_at))
        if rate.take(message):
            text = "there is no limit" if limit is None else f"fewer than {limit} messages in the last minute"
            return Finding("rate limit", "passed", text)
        text = f"{limit} messages in the last minute"
        return Finding("rate limit", "refused", text, "wait a minute, or raise messages_per_minute in [limits]")

    async def _hooks(self) -> Finding:
        names = [hook.name for hook in self._settings.hooks if "on_message" in hook.points]
        if not names:
            return Finding("hooks", "passed", "none is asked")
        if not self._asked.ask_hooks:
            text = f"asked are: {', '.join(map(plain, names))}"
            return Finding("hooks", "unknown", text, "with --ask-hooks they are run with this message")
        message, address = self.message, self.message.address
        mask = Mask(secret.get_secret_value() for secret in every_secret(self._settings))
        context = HookContext(self._session, address.channel, "", message.sender.name, message.sender.id)
        async with HookChain(configured_hooks(self._configuration, mask)) as chain:
            _, ruled = await chain.ask("on_message", context, MessageIn(message.text, message.note, ()))
        if ruled is not None and isinstance(ruled.ruling, Deny):
            text = f"the hook {plain(ruled.hook)} denies it: {plain(mask(ruled.ruling.reason), 300)}"
            return Finding("hooks", "refused", text, "change the hook, or remove its section from the settings")
        return Finding("hooks", "passed", f"asked were: {', '.join(map(plain, names))}")

    def _debounce(self) -> Iterator[Finding]:
        section = self._settings.channels.get(self._asked.channel)
        if section is not None and section.debounce:
            text = f"an idle conversation waits {section.debounce:g} s for further messages before it is answered"
            yield Finding("debounce", "note", text)

    def _queue(self) -> Finding:
        state = senders.place_state(self._connection, self._session)
        busy = state.busy or self._policy.busy(self._asked.channel)
        waiting = f"; {state.waiting} messages wait already" if state.waiting else ""
        work = state.work
        if work is None:
            return Finding("queue", "note", f"no task runs there: the message begins one{waiting}")
        whose = f"the task {work.turn[:12]} of {plain_person(work.by)}"
        if work.awaits_decision:
            return Finding("queue", "note", f"{whose} waits for an approval: the message decides or drops it{waiting}")
        if work.parked:
            return Finding("queue", "note", f"{whose} waits for an answer: the message is the answer{waiting}")
        if self.message.sender.level < work.by.level:
            text = f"{whose}, who has more rights, runs: the message waits until it ends{waiting}"
            return Finding("queue", "note", text)
        return Finding("queue", "note", f"{whose} runs; busy mode {busy}{waiting}")

    async def _limits(self) -> Finding:
        limits = spending_limits(self._settings.limits)
        budgets = Budgets(
            _Bills(self._connection), limits, lambda request, model: cost_of(self._settings, request, model)
        )
        sender = self.message.sender
        daily = self._policy.roles.daily_cost(sender.level)
        used_up = await budgets.used_up_today(self.message.address, sender, daily)
        if used_up is None:
            return Finding("cost limits", "passed", "no limit of today is used up")
        text = f"{used_up} The task begins, and asks for approval before it asks the model"
        return Finding("cost limits", "refused", text, "raise it in [limits] or [roles], or wait until midnight UTC")

    def _agent(self) -> Finding:
        address, sender = self.message.address, self.message.sender
        chosen = sessions.model_of(self._connection, self._session)
        agent = named_agents(self._settings, self._policy, _not_built).pick(chosen.agent, address, sender)
        default = default_model(self._settings, address.channel, agent)
        model = self._policy.roles.model(sender.level, chosen.model, default) or default
        text = f"agent {agent}, model {model}"
        if model == "demo":
            return Finding("agent", "passed", f"{text}, which works offline")
        provider = provider_of(self._settings, provider_and_name(model)[0])
        keys = "with a key" if provider.keys else "without a key"
        where = f"{text} at {address_of(provider)}, {keys}"
        return Finding("agent", "passed", f"{where}; `interject doctor` asks its server")


class _Bills:
    """Implements `gateway.turns.budgets.UsageStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def spent(
        self,
        *,
        turn: str | None = None,
        session: str | None = None,
        person: str | None = None,
        since: datetime | None = None,
        task: str | None = None,
    ) -> UsageTotals:
        return costs.spent(self._connection, turn=turn, session=session, person=person, since=since, task=task)


def _not_built(name: str, channel: str) -> NoReturn:
    raise NotImplementedError("only asked which agent it is")


class _StoredKeys:
    """Implements `gateway.inbound.api_keys.KeyStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def api_keys(self) -> tuple[ApiKey, ...]:
        return api_keys.every(self._connection)

    async def note_key_used(self, key: str) -> None:
        """Nobody uses it."""


async def _policy(configuration: Configuration, connection: Connection) -> AccessPolicy:
    """As a running gateway has it: with the names that were resolved, and the keys of programs."""
    policy = access(configuration.settings)
    policy.programs = programs = ApiKeys(_StoredKeys(connection))
    await programs.load()
    names = policy.names()
    for identity in identities.all_identities(connection):
        if identity.name in names.get(identity.channel, ()):
            policy.resolved(identity.channel, identity.name, identity.user_id)
    return policy


def _message(asked: Asked, connection: Connection) -> InboundMessage:
    known = senders.known_sender(connection, asked.channel, asked.user)
    handle = asked.handle or (known.handle if known is not None else None)
    sender = Sender(
        asked.user,
        known.name if known is not None else "",
        handle.removeprefix("@") if handle else None,
        "bot" if asked.is_bot else "person",
        asked.membership,
        groups=frozenset(asked.groups),
    )
    return InboundMessage(
        "why-not",
        _address(asked, connection),
        sender,
        datetime.now(UTC),
        text=asked.text,
        addressed=asked.addressed,
        follows=not asked.addressed and asked.thread is not None,
    )


def _address(asked: Asked, connection: Connection) -> Address:
    """A place where people have written, if it is one; else a group, or without `chat` the person's direct chat."""
    known = senders.known_addresses(connection, asked.channel)
    account = known[0].account if known else ""
    if asked.chat is None:
        direct = reading.direct_chats(connection, asked.channel, {asked.user.lower()})
        return direct[0][1] if direct else Address(asked.channel, account, asked.user, asked.thread, "direct")
    found = next((each for each in known if each.chat == asked.chat), None)
    if found is None:
        return Address(asked.channel, account, asked.chat, asked.thread, "group")
    return replace(found, thread=asked.thread)
