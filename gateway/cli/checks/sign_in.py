"""People whom a reverse proxy signs in to the web chat: who they are, whose word counts, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings
from config.web import WebSettings
from gateway.assembly.shell_policy import ShellPolicy, runs_code

MEANING = "whoever can send requests from there can sign in as anybody, also as an admin"


def sign_in_by_proxy(web: WebSettings) -> str:
    """Whose word counts for whom, in a line; "" if no proxy signs people in."""
    if web.trusted_header is None:
        return ""
    proxies = ", ".join(web.trusted_proxies)
    return (
        f"the header {web.trusted_header} of requests from {proxies} signs people in: {MEANING}. "
        f"Allowed users: {_allowed(web)}"
    )


def sign_in_warnings(settings: Settings, running: ShellPolicy) -> Iterator[str]:
    """What is wrong and what to do, a line each."""
    web = settings.web
    if web.trusted_header is None:
        return
    if web.url is None:
        yield (
            "[web] trusted_header is set, and url is not: what people write may be taken for another site's, and be "
            'refused. Set url = "https://chat.example.com", the address that people open'
        )
    if runs_code(settings) and not running.unavailable and not _is_without_network(running):
        yield (
            "commands of the agent reach this web server, and can sign in as anybody if requests of this machine count "
            'as the proxy\'s. Set sandbox = "auto" and network = "none" in [tools.shell], or run the proxy on another '
            "machine or in a network of its own"
        )


def _is_without_network(running: ShellPolicy) -> bool:
    return running.policy.sandboxed and not running.policy.network


def _allowed(web: WebSettings) -> str:
    if "*" in (*web.allow, *web.members, *web.guests):
        return "everybody whom the proxy signs in"
    return ", ".join(dict.fromkeys((*web.allow, *web.admins, *web.members, *web.guests)))
