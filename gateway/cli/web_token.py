"""`interject web-token`: prints the web chat's sign-in link, or replaces its token; works beside a running gateway."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from config.load import Configuration
from gateway.cli.home import describe_error, make_home
from gateway.cli.instance_file import published_link, replace_link
from gateway.cli.program import program
from gateway.store.errors import StoreError
from gateway.store.shared_secrets import WEB_TOKEN
from gateway.web.token import WebToken, new_token, token_before, token_file

IN_STORE = "Its token is in the database, which all processes share"


def show(configuration: Configuration) -> int:
    """Prints the sign-in link, to a terminal only: other outputs are often kept in logs. Returns the exit code."""
    if not sys.stdout.isatty():
        is_file = configuration.settings.store.file is not None
        where = f"Its token is in the file {token_file(configuration.home)}" if is_file else IN_STORE
        sys.stderr.write(f"interject: the sign-in link is printed to a terminal only. {where}\n")
        return 1
    try:
        token = current_token(configuration)
    except (StoreError, OSError) as error:
        sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
        return 1
    sys.stdout.write(f"{_address(configuration)}/?token={token}\n")
    return 0


def rotate(configuration: Configuration) -> int:
    """Replaces the token and signs everybody out. Returns the exit code."""
    try:
        make_home(configuration.home)
        token = _replaced_token(configuration)
        link = published_link(configuration.home)
        if link is not None:
            replace_link(configuration.home, f"{_origin(link)}/?token={token}")
    except (StoreError, OSError) as error:
        sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
        return 1
    sys.stdout.write("The web chat has a new token: everybody is signed out, and old sign-in links are void.\n")
    return show(configuration) if sys.stdout.isatty() else 0


def current_token(configuration: Configuration) -> str:
    """The owner's token, which is made if there is none yet. Raises `StoreError` and `OSError`."""
    store, home = configuration.settings.store, configuration.home
    if store.file is not None:
        return WebToken(home)()
    from gateway.store import offline

    found = offline.shared_secret(store.url, WEB_TOKEN)
    return found or offline.add_shared_secret(store.url, WEB_TOKEN, token_before(home) or new_token())


def _replaced_token(configuration: Configuration) -> str:
    """A new one in the place of the owner's. Raises `StoreError` and `OSError`."""
    store = configuration.settings.store
    if store.file is not None:
        token = WebToken(configuration.home)
        token.rotate()
        return token()
    from gateway.store import offline

    offline.replace_shared_secret(store.url, WEB_TOKEN, new := new_token())
    return new


def sign_in_link(configuration: Configuration, link: str | None) -> str | None:
    """The link as `interject run` prints it: with the public address, and with the token only in a terminal."""
    if link is None:
        return None
    origin = configuration.settings.web.url or _origin(link)
    if not sys.stdout.isatty():
        return f'{origin} ("{program()} web-token show", in a terminal, prints the sign-in link)'
    return f"{origin}/?{urlsplit(link).query}"


def _address(configuration: Configuration) -> str:
    web = configuration.settings.web
    link = published_link(configuration.home)
    return web.url or (_origin(link) if link else f"http://{web.host}:{web.port}")


def _origin(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"
