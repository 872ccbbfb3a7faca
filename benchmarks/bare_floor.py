"""The bare floor: the smallest Telegram bot on python-telegram-bot and plain httpx, without a model library."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

import httpx
from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters


def main(api_url: str, token: str, model_url: str) -> None:
    client = httpx.AsyncClient(
        timeout=60, headers={"Authorization": "Bearer none"}, limits=httpx.Limits(max_connections=None)
    )
    histories: defaultdict[int, list[Any]] = defaultdict(list)

    async def answer(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        if update.message is None or update.message.text is None:
            return
        history = histories[update.message.chat_id]
        history.append({"role": "user", "content": update.message.text})
        pieces: list[str] = []
        body = {"model": "test", "messages": history, "stream": True}
        async with client.stream("POST", f"{model_url}/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    pieces += [choice["delta"].get("content") or "" for choice in choices]
        history.append({"role": "assistant", "content": "".join(pieces)})
        await update.message.reply_text("".join(pieces))

    builder = Application.builder().token(token).base_url(f"{api_url}/bot").base_file_url(f"{api_url}/file/bot")
    application = builder.concurrent_updates(True).pool_timeout(30).build()
    application.add_handler(MessageHandler(filters.TEXT, answer))
    application.run_polling(timeout=30)


if __name__ == "__main__":
    main(*sys.argv[1:])
