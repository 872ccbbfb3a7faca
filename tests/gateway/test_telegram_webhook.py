"""Telegram posts updates to the gateway's web server, through a real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.engines import engines
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

PUBLIC = "https://bot.example.org"


async def test_updates_that_telegram_posts_are_answered_and_others_are_not_taken(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Hello Ann."))
    settings = write_settings(tmp_path, api, models, more=f'webhook_url = "{PUBLIC}"\n')
    async with gateway(settings) as built:
        await api.until(lambda api: api.called("getMe"))
        [call] = api.called("setWebhook")
        assert call.params["url"] == f"{PUBLIC}/telegram/telegram/"
        assert call.params["max_connections"] == "1"
        ann = api.private()
        here = str(built.link).split("/?token=")[0]
        message = {"message_id": 5, "date": 1_790_000_000, "chat": ann.card, "from": ann.people[0].card, "text": "hi"}
        secret = {"X-Telegram-Bot-Api-Secret-Token": call.params["secret_token"]}

        async def post(update: Any, headers: dict[str, str] = secret) -> int:
            async with httpx.AsyncClient(base_url=here, timeout=30) as telegram:
                content = update if isinstance(update, bytes) else None
                body = None if content else update
                answer = await telegram.post("/telegram/telegram/", json=body, content=content, headers=headers)
                return answer.status_code

        update = {"update_id": 1, "message": message}
        assert await post(update, {}) == 401
        assert await post(update, {"X-Telegram-Bot-Api-Secret-Token": "guessed"}) == 401
        assert await post(b"{") == 400
        assert await post({"update_id": 2, "message": "odd"}) == 200
        database = tmp_path / "home" / "interject.db"
        engines.refuse(database, "inbox")
        assert await post(update) == 503, "Telegram sends again what could not be stored"
        engines.allow(database, "inbox")
        assert await post(update) == 200
        assert await post(update) == 200
        await ann.hear("Hello Ann.")
    assert len(models.requests) == 1
    assert api.called("getUpdates") == []
