"""The web chat's token is masked in what people are shown, also one that has replaced another."""

from __future__ import annotations

from pathlib import Path

from gateway.web.token import WebToken
from tests.gateway.stage import gateway, write_settings
from tests.servers.model_script import Request, Say, Turn
from tests.servers.models import ModelServer
from tests.servers.telegram import BotApi


async def test_a_token_that_was_replaced_is_masked_at_once(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    token = WebToken(tmp_path / "home")

    def answer(request: Request) -> Turn:
        return Say(f"It is {token()}.")

    async with BotApi() as api, ModelServer() as models:
        models.respond(answer)
        ann = api.private(user_id=7, name="Ann")
        async with gateway(write_settings(tmp_path, api, models)):
            old = token()
            await ann.say("what is the token?")
            await ann.hear("It is [secret].")
            token.rotate()
            await ann.say("and now?")
            await ann.until(lambda chat: chat.texts.count("It is [secret].") == 2)
            assert token() != old
