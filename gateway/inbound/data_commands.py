"""Commands about people's data: `/forget`, `/export`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.log import Notice
from agent.media import MediaError, MediaStore
from gateway.inbound.access import AccessPolicy
from gateway.outbound.export import export_bytes, size_of
from gateway.outbound.notices import Notices
from gateway.outbound.wording import report_text
from gateway.store.export import ExportedConversation
from gateway.store.records import AuditEvent, Command, DeletionReport, DeletionRequest, DeletionScope
from gateway.turns.budgets import person_on

CONFIRM = "yes"
"""The last argument of `/forget` that starts the deletion."""

EVERYWHERE = "all"

MAX_EXPORT = 40_000_000
"""Bytes of files in an export that is sent to a chat."""


class DataStore(Protocol):
    async def count_deleted(self, wanted: DeletionRequest) -> DeletionReport: ...
    async def people_named(self, channel: str, name: str) -> tuple[tuple[str, str], ...]: ...
    async def sessions_of(self, person: str) -> tuple[str, ...]: ...
    async def exported(self, session: str, person: str | None) -> ExportedConversation | None: ...
    async def record_audit(self, *events: AuditEvent) -> None: ...


class DataCommands:
    """Each method runs one command and returns the answer to the person."""

    def __init__(
        self,
        store: DataStore,
        media: MediaStore,
        notices: Notices,
        access: AccessPolicy,
        delete: Callable[[DeletionRequest], Awaitable[DeletionReport]],
    ) -> None:
        self._store = store
        self._media = media
        self._notices = notices
        self._access = access
        self._delete = delete
        self._exporting: set[str] = set()

    async def forget(self, command: Command) -> str:
        """Deletes after a confirmation: one tap on a command in a menu must not delete anything."""
        words = command.arguments.split()
        confirmed = bool(words) and words[-1].lower() == CONFIRM
        whose = " ".join(words[:-1] if confirmed else words)
        wanted = await self._wanted(command, whose)
        if isinstance(wanted, str):
            return wanted
        again = " ".join(filter(None, ("/forget", whose, CONFIRM)))
        if not confirmed:
            return f"{await self._announcement(command, wanted)} This cannot be undone. Confirm with `{again}`."
        report = await self._delete(wanted)
        return "\n\n".join((f"Deleted: {report_text(report)}.", *_stays(command, report)))

    async def _wanted(self, command: Command, whose: str) -> DeletionRequest | str:
        """What the command asks to delete, or why that is not possible."""
        own = person_on(command.address, command.sender)
        if not whose:
            is_all = self._access.may_delete_all(command.address, command.sender)
            scope: DeletionScope = "conversation" if is_all else "person_here"
            return DeletionRequest(scope, command.session, own, command.id, own)
        if whose.lower() == EVERYWHERE:
            return DeletionRequest("person", person=own, upto=command.id, by=own)
        if not self._access.oversees(command.address, command.sender):
            return "Only admins may delete another person's data. `/forget` deletes yours."
        found = await self._store.people_named(command.address.channel, _plain_id(whose))
        if len(found) != 1:
            which = "Several people have" if found else "Nobody has written here with"
            return f"{which} this name. Use the person's user id: `/forget USER_ID`."
        [(sender, _)] = found
        return DeletionRequest("person", person=f"{command.address.channel}:{sender}", upto=command.id, by=own)

    async def _announcement(self, command: Command, wanted: DeletionRequest) -> str:
        counted = report_text(await self._store.count_deleted(wanted))
        match wanted.scope:
            case "conversation":
                return f"This deletes this conversation: {counted}, with all answers, files and the workspace."
            case "person_here":
                return f"This deletes what you wrote here: {counted}, with their files and my answers to you."
            case _:
                whose = "everything that you wrote to me" if wanted.person == wanted.by else f"all of `{wanted.person}`"
                return (
                    f"This deletes {whose} on this channel: {counted}, with answers and files, and access by pairing."
                )

    async def export(self, command: Command) -> str:
        """One at a time for each person: an export holds all of its files in memory."""
        own = person_on(command.address, command.sender)
        if own in self._exporting:
            return "I am making an export for you already. Please wait until it is there."
        self._exporting.add(own)
        try:
            return await self._export(command, own)
        finally:
            self._exporting.discard(own)

    async def _export(self, command: Command, own: str) -> str:
        sessions: tuple[str, ...]
        match command.arguments.strip().lower():
            case "":
                sessions = (command.session,)
            case argument if argument == EVERYWHERE:
                if command.address.kind != "direct":
                    return "In a group I do not send all your data. Write `/export all` to me directly."
                sessions = await self._store.sessions_of(own)
            case _:
                return "`/export` sends you the data of this conversation, `/export all` of all of yours."
        found = [await self._store.exported(session, own) for session in sessions]
        conversations = [each for each in found if each is not None]
        if size_of(conversations) > MAX_EXPORT:
            return "The export is too large for a chat. Ask the operator for it: `interject data export`."
        try:
            file = await self._media.put(await export_bytes(conversations, self._media.read), "export.zip")
        except MediaError as error:
            return f"The export could not be stored: {error}"
        text = f"Exported: {sum(len(each.messages) for each in conversations)} messages with answers and files."
        notice = Notice(text, attachments=(file,))
        await self._store.record_audit(AuditEvent("exported", own, command.sender.name, command.session))
        await self._notices.send(command.session, command.address, command.message_id, notice, f"export:{command.id}")
        return "The file contains personal data: store it safely. `/forget` deletes it here too."


def _plain_id(text: str) -> str:
    """The user id in a mention, such as Slack's <@U123> and Discord's <@123>."""
    return text.strip("<>").lstrip("@!").partition("|")[0]


def _stays(command: Command, report: DeletionReport) -> list[str]:
    """What was not deleted, in words for people."""
    stays = ["Messages that the chat app shows stay there: delete them in the app."]
    if report.quoting:
        stays.insert(0, f"{report.quoting} of my answers to other people stay. They may repeat what was deleted.")
    return stays
