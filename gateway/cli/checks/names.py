"""Who has which role, and whom the names of the settings mean, as far as a gateway has resolved them."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings
from gateway.inbound.access import is_name
from gateway.outbound.wording import plain
from gateway.store import offline
from gateway.store.errors import StoreError


def listed_roles(settings: Settings) -> Iterator[str]:
    """A line for each list of people with a role."""
    for channel, section in (("web", settings.web), *settings.channels.items()):
        for role, users in (("admins", section.admins), ("members", section.members), ("guests", section.guests)):
            if users:
                yield f"{channel}: {role}: {', '.join(users)}"


def resolved_names(settings: Settings) -> Iterator[str]:
    """A line for each name."""
    names = {
        (channel, user.lower())
        for channel, section in settings.channels.items()
        for user in (*section.allow, *section.admins, *section.members, *section.guests)
        if is_name(user.lower())
    }
    if not names:
        return
    try:
        known = {(each.channel, each.name): each for each in offline.all_identities(settings.store.url)}
    except StoreError:
        # No gateway has started yet.
        known = {}
    for channel, name in sorted(names):
        found = known.get((channel, name))
        if found is None:
            yield f"{channel}: {name} is not resolved to an id yet; `interject run` does that"
        else:
            yield f"{channel}: {name} is {plain(found.user_id)} ({plain(found.user_name)}), since {found.at.date()}"
