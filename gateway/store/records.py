"""Records: what the store's operations take and return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from agent.background import BackgroundState, DelegatedTask
from agent.log import ApprovalDecision, Entry, TurnOutcome
from agent.media import Attachment
from agent.model import Reasoning
from channels.address import Address, Sender
from channels.message import BusyMode, FileRef, MessageState
from channels.runs import RunState

Busy = Literal[BusyMode, "wrap", "work", "answer"]
"""`BusyMode`, or a request that the running turn finish up (`wrap`, which no other turn reads), or a message from
background work (`work`), or one that answers a running call (`answer`)."""

Admission = Literal["open", "known", "paired", "known and paired"]
"""What the store checks before it accepts a message: nothing; that people have written to the bot in this session
before (`known`); that an admin has approved the sender's pairing (`paired`); or both."""

Speaker = Literal["person", "bot", "other"]
"""Who has written a message, for the count of messages of bots in a row, which a person's ends. `other`: a program, or
nobody says anything."""


@dataclass(frozen=True, slots=True)
class MessageLimit:
    """So many messages a minute may one person send; `reason` is why another one is refused."""

    per_minute: int
    reason: str


@dataclass(frozen=True, slots=True)
class AcceptOptions:
    """How a message is accepted.

    `busy` is what the message asks to do to a running turn; without it the session's setting applies, then the
    channel's `default_busy`. `own_turn_only`: it may not stop another person's turn, nor decide there. `may_extend`:
    its sender may let a turn go beyond a limit. `names` are @names in the settings that may mean its sender;
    `only_by_name`: the sender is admitted only if one of them does, or by pairing where `admission` says so.
    `named_level` is then the sender's level, if it is higher.
    `only_known_target`: it deletes a message, and is ignored if that message is not stored.
    `catches_up`: messages may have been written that the session has not heard.
    `over_limit` is why a message of somebody who is admitted is refused, "" if it is not.
    `limit` holds for the messages that all workers take from its sender; None: they are not counted in the store.
    `debounced`: it may wait for further messages before it begins a turn. `speaker` is who has written it.
    `stops`: its words ask for nothing but the end of the running turn; it is the command that ends it, if one runs that
    its sender may stop.
    """

    admission: Admission = "open"
    busy: Busy | None = None
    default_busy: Busy = "steer"
    own_turn_only: bool = False
    may_extend: bool = True
    names: tuple[str, ...] = ()
    only_by_name: bool = False
    named_level: int = 0
    over_limit: str = ""
    limit: MessageLimit | None = None
    only_known_target: bool = False
    catches_up: bool = False
    debounced: bool = False
    speaker: Speaker = "person"
    stops: bool = False


DEFAULT_OPTIONS = AcceptOptions()

RowState = Literal["waiting", "consumed", "answered", "withdrawn", "refused"]
"""An inbox row's state; all but `waiting` are terminal (a row ends in exactly one of them)."""


@dataclass(frozen=True, slots=True)
class MessageChange:
    """A person's earlier message whose state or text a new arrival changed."""

    id: int
    message_id: str | None
    state: MessageState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of an inbound message in the transaction that stored it. `differs`: of a duplicate, that the stored
    message has another digest.

    `wakes`: a message can be read, or will be soon, and does this to a running turn. `to_fetch`: the row whose files
    are still to be fetched. `command` is the one for which
    the row waits for the command handler, "" for none. `changed`: the earlier message that this
    one edited or withdrew. `stop_reason`: why the unfinished turn has to stop, "" if it has not. `run`: its `Run`, if
    it expects an answer of its own. `decided`: it decided the request of the parked turn, which can be claimed.
    `named`: the @names of the settings that mean its sender. `is_stored`: false for a refused message that was only
    counted. `begins`: it may wait for further messages (`AcceptOptions.debounced`), since no turn of its session runs
    or is parked. `over_limit`: it is refused because its sender has sent too many; `was_told`: in the last minute the
    sender was told so.
    """

    id: int
    session: str
    duplicate: bool = False
    state: RowState = "waiting"
    reason: str = ""
    wakes: Busy | None = None
    to_fetch: int | None = None
    command: str = ""
    changed: MessageChange | None = None
    stop_reason: str = ""
    run: str | None = None
    decided: bool = False
    named: tuple[str, ...] = ()
    is_stored: bool = True
    begins: bool = False
    differs: bool = False
    over_limit: bool = False
    was_told: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A message that expects its own answer, from its acceptance to its one end. `turn` is the turn that read it, at
    `step`; `reason` is for a person to read."""

    run_id: str
    session: str
    state: RunState
    turn: str | None = None
    step: int | None = None
    reason: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running", "parked")


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """A run, followed to the turn that answers it, whoever's message that began with. `state` and `reason` are of the
    answer; `claims` rises each time that the turn goes on. `ended_at` is None until the turn ends."""

    run: Run
    row: int
    state: RunState
    reason: str
    claims: int
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running", "parked")


ChoiceOutcome = Literal["chosen", "not_open", "not_allowed", "not_yours"]
"""What became of a pressed option of a question."""

DecisionOutcome = Literal["decided", "not_open", "not_allowed", "may_only_stop"]


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """What became of a pressed option of an approval request. `not_open`: it was decided before, by `by` with the
    `decision`, if that is known, or a message has come instead. `may_only_stop`: they may not let the turn go beyond
    its limit.

    Unless it is `decided`, the command of the press still waits.
    """

    outcome: DecisionOutcome
    session: str = ""
    by: str = ""
    decision: ApprovalDecision | None = None


TurnKind = Literal["turn", "command", "aside"]
"""A turn of the conversation, the answer to a command, or a side question."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A claimed turn. Only the holder of its `epoch` may write to it.

    `stop`: why it is to stop instead of going on, if it is. `parked`: it waits for people. `after`: the last turn of
    the history that it goes on with, "" for none, None if that is not known; `first`: it begins the history. `unread`:
    a message can be read that the turn has not read, and does this to it.
    `root`: the turn whose budget its usage counts for; for a delegated turn, the one that a person began.
    `former_worker`: the one that was running it and is gone, "" if it is not known which; None if none is gone.

    Settings of its session, as of the claim: `allowed` tools need no approval, `model` is the chosen one ("" for the
    default) and `reasoning` how much it is to reason, `generation` counts the resets by `/new`. `agent` is the agent
    that was chosen when the turn began, "" for the one of the place.
    """

    id: str
    session: str
    epoch: int
    address: Address
    principal: Sender
    reply_to: str | None
    kind: TurnKind
    entries: tuple[Entry, ...]
    started_at: datetime
    after: str | None = None
    first: bool = False
    stop: str | None = None
    parked: bool = False
    unread: Busy | None = None
    root: str = ""
    allowed: frozenset[str] = frozenset()
    model: str = ""
    reasoning: Reasoning | None = None
    agent: str = ""
    generation: int = 0
    former_worker: str | None = None


NoRoom = Literal["full", "share"]
"""Why a turn cannot begin now: all workers together run as many as they may, or as many of this person's."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What people have chosen for a session: its model, "" for the default one, how much it is to reason, and its
    agent, "" for the one of the place."""

    model: str = ""
    reasoning: Reasoning | None = None
    agent: str = ""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A conversation: `generation` counts its resets by `/new`; `busy` is what was chosen there, None for nothing."""

    generation: int
    busy: Busy | None
    created_at: datetime
    last_at: datetime
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command that waits for its answer."""

    id: int
    session: str
    address: Address
    sender: Sender
    message_id: str | None
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Unfetched:
    """A message whose files are not fetched yet, or whose text may go on. Until it is ready, turns read neither it nor
    any later message. `sender` is the user id; `parts` are the messages of its album until now. `reads_talk`: what was
    said before is to be read too, after the message `seen` if there is one. `follows`: these are late files
    of the message in this row."""

    id: int
    session: str
    address: Address
    sender: str
    files: tuple[FileRef, ...]
    album: str | None
    thread_root: str | None = None
    parts: int = 1
    message_id: str | None = None
    reads_talk: bool = False
    seen: str | None = None
    follows: int | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """What a worker finds to do that nobody else does any more."""

    commands: tuple[Command, ...]
    sessions: tuple[str, ...]
    """Sessions with an unfinished turn or with unread messages, longest waiting first."""
    people: Mapping[str, str]
    """By session, the person (`gateway.sessions.person_key`) whose turn is unfinished, or whose message is the first
    unread one."""
    unfetched: tuple[Unfetched, ...]
    undelivered: tuple[str, ...]
    """Ended and parked turns whose reply has not been confirmed by the platform, oldest first."""
    side_questions: tuple[str, ...] = ()
    """Questions on the side (turn ids) whose answer is not given yet, oldest first."""
    background: tuple[int, ...] = ()
    """Background work (ids) that goes on, oldest first."""
    awaiting: tuple[tuple[str, bool], ...] = ()
    """Turns that waited for tasks, and whether they still do."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """An unknown sender's request to write to the bot: an admin approves its `code`. It was made in `session`, at
    `address`."""

    channel: str
    sender: Sender
    code: str
    expires_at: datetime
    approved: bool
    session: str
    address: Address


@dataclass(frozen=True, slots=True)
class PairingRequest:
    """A new pairing request. `pending` is the number of valid ones in its channel, with this one."""

    pairing: Pairing
    pending: int


@dataclass(frozen=True, slots=True)
class WebSession:
    """A browser in which this person of a channel is signed in. `is_paired`: an admin has approved the person's
    pairing."""

    channel: str
    sender: Sender
    is_paired: bool


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A link with which this person of a channel signs in, asked for in the conversation `session`."""

    session: str
    channel: str
    sender: Sender


McpAccountKey = tuple[str, str]
"""The server, and the hash of the person ("": everybody)."""


@dataclass(frozen=True, slots=True)
class McpAccount:
    """A sign-in at an MCP server, with its tokens. `person` is a hash of "channel:id", "" for everybody's; `version` is
    another one after each change."""

    server: str
    person: str
    content: dict[str, Any]
    version: str


@dataclass(frozen=True, slots=True)
class McpSignIn:
    """A link with which a person signs in at an MCP server. `who` is their name, `url` the page at which they do so."""

    server: str
    who: str
    url: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an @name of the settings means. `user_name` is the display name at that time."""

    channel: str
    name: str
    user_id: str
    user_name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who is not allowed, and how many messages were refused."""

    channel: str
    sender: Sender
    messages: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class StopRequest:
    """The session's running turn, which has read messages with ids below `before`, has to stop. `is_aside`: it is a
    side question, and `session` its turn id."""

    session: str
    before: int
    reason: str
    is_aside: bool = False


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A queued message that will not be read."""

    address: Address
    id: int
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Revoked:
    """Access that was taken back from `sender`, with the running turns that have to stop, the queued messages that are
    refused, and the number of background tasks that were stopped."""

    sender: Sender
    stops: tuple[StopRequest, ...]
    refused: tuple[RefusedMessage, ...]
    background: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ActivePerson:
    """Somebody with a message that waits, or with an unfinished turn or background work, which has the level
    `sender.level`. `is_paired`: an admin has approved the person's pairing."""

    channel: str
    sender: Sender
    is_paired: bool


@dataclass(frozen=True, slots=True)
class UndeliveredReply:
    """The reply of a turn that the platform did not take, or not all of it."""

    turn: str
    session: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ChatMove:
    """The platform has given the chat another id."""

    channel: str
    account: str
    chat: str
    new_chat: str


@dataclass(frozen=True, slots=True)
class PastTurn:
    id: str
    outcome: TurnOutcome
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class UndoneTurn:
    """A turn that was removed from the history, and the texts of people's messages in it."""

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """The sum of several model calls: tokens as in `agent.log.Usage`, `cost` in dollars. `estimated`: some tokens were
    counted by the gateway, not by the provider. `unpriced`: the price of some calls is not known."""

    calls: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cost: float = 0.0
    estimated: bool = False
    unpriced: bool = False

    def __add__(self, other: UsageTotals) -> UsageTotals:
        return UsageTotals(
            self.calls + other.calls,
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
            self.cost + other.cost,
            self.estimated or other.estimated,
            self.unpriced or other.unpriced,
        )


@dataclass(frozen=True, slots=True)
class SpendingCaps:
    """The most that a turn with all that it delegated, a person in a day and everybody in a day may cost, in dollars;
    None is no limit."""

    turn: float | None = None
    person_daily: float | None = None
    daily: float | None = None


@dataclass(frozen=True, slots=True)
class Exceeded:
    """What a call would exceed: `limit` is less than what the bill and all reservations, `reserved`, make with it."""

    whose: Literal["turn", "person", "everybody"]
    bill: UsageTotals
    reserved: float
    limit: float


@dataclass(frozen=True, slots=True)
class InboxRow:
    id: int
    message_id: str | None
    sender: Sender
    text: str
    attachments: tuple[Attachment, ...]
    state: RowState
    turn: str | None
    step: int | None
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A session with its title, or else with the beginning of its first message. `generation` is that of a conversation
    which `/new` ended; None: the current one."""

    session: str
    address: Address
    title: str
    last_at: datetime
    running: bool
    generation: int | None = None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class BackgroundRow:
    """A call in the background, or a delegated task in its own session `child`. `waited`: its turn waits for it."""

    id: int
    handle: str
    session: str
    generation: int
    kind: Literal["call", "task"]
    title: str
    address: Address
    principal: Sender
    turn: str
    root: str
    call_id: str | None
    child: str | None
    waited: bool
    depth: int
    state: BackgroundState
    shown: str
    started_at: datetime
    delegated: DelegatedTask | None

    @property
    def until(self) -> datetime:
        """The deadline of a task."""
        assert self.delegated is not None
        return self.started_at + timedelta(seconds=self.delegated.seconds)


@dataclass(frozen=True, slots=True)
class BackgroundResult:
    """How background work ended: `text` is its result, or the reason; `foreign` are the sources of text from outside
    that it has read."""

    state: BackgroundState
    text: str
    attachments: tuple[Attachment, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """Background work that has ended. `arrival` is the message that brings the result, if one was needed.
    `stop_reason`: why its running task or call has to stop, "" if it has not."""

    row: BackgroundRow
    result: BackgroundResult
    arrival: Arrival | None = None
    stop_reason: str = ""


AuditKind = Literal[
    "refused",
    "admitted",
    "revoked",
    "approved",
    "denied",
    "stopped",
    "tool_call",
    "settings",
    "exported",
    "forked",
    "deleted",
    "undelivered",
    "redelivered",
    "moved",
    "key_created",
    "key_revoked",
    "signed_in",
    "model_asked",
    "worker_drained",
]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something for the audit log. `actor`: see `gateway.store.schema.audit`; `session` is the conversation, "" for
    none. `detail` has no content beyond the arguments of calls, which are masked."""

    event: AuditKind
    actor: str = ""
    actor_name: str = ""
    session: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRow:
    id: int
    at: datetime
    event: str
    actor: str
    actor_name: str
    session: str
    detail: dict[str, Any]


ApiKeyScope = Literal["read", "chat", "operate", "admin"]
"""What a key of the control API is for, each with all before it: see conversations; write, steer and stop in them; act
for everybody and see usage and audit; manage people, keys and settings."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`hash` is that of its secret. `agents` and `conversations` are patterns of those that it may use, None for all;
    `used_at` is exact to a minute."""

    id: str
    name: str
    hash: str = field(repr=False)
    scope: ApiKeyScope
    agents: tuple[str, ...] | None
    conversations: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if self.expires_at is None or now < self.expires_at else "expired"

    def is_valid(self, now: datetime) -> bool:
        return self.state(now) == "valid"


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key with its secret, which is stored nowhere."""

    key: ApiKey
    secret: str = field(repr=False)


FolderOwner = Address | str
"""Whose workspace a folder may be: a conversation's, by its address, or a person's ("channel:user id")."""

DeletionScope = Literal["conversation", "person", "person_here", "old"]
"""A conversation; all that a person has written, everywhere or in one conversation; or what is older than the settings
allow."""


@dataclass(frozen=True, slots=True)
class DeletionRequest:
    """What to delete: the conversation `session`, or data of the `person` ("channel:user id"), up to the inbox row
    `upto`. `by` is who asked for it, as an actor of the audit log."""

    scope: DeletionScope
    session: str = ""
    person: str = ""
    upto: int | None = None
    by: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What was deleted. `conversations` were removed whole. `quoting` answers to other people stay that were written
    after reading deleted messages."""

    conversations: int = 0
    messages: int = 0
    turns: int = 0
    files: int = 0
    summaries: int = 0
    folders: int = 0
    accesses: int = 0
    quoting: int = 0


@dataclass(frozen=True, slots=True)
class SavedWorkspace:
    """The newest version of a workspace in the media store. `manifest` is the hash of the list of its `files`, `host`
    the machine that saved it. `id` is another one when the workspace was deleted and there is a new one."""

    id: str
    version: int
    manifest: str
    files: int
    host: str


@dataclass(frozen=True, slots=True)
class WorkspaceChange:
    """A new version of the workspace `key` in place of `base` (None: it is not saved yet). `added` and `removed` are
    hashes of files in the media store, with that of the manifest."""

    key: str
    base: SavedWorkspace | None
    manifest: str
    files: int
    host: str
    added: frozenset[str]
    removed: frozenset[str]
