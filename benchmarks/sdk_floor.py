"""The SDK floor: the smallest Telegram bot on python-telegram-bot and the openai SDK, without a gateway."""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from typing import Any

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters


@cache
def client(url: str) -> Any:
    # As expensive to import as all the rest, and not needed for polling.
    from openai import AsyncOpenAI, DefaultAioHttpClient

    return AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=DefaultAioHttpClient())


def main(api_url: str, token: str, model_url: str) -> None:
    histories: defaultdict[int, list[Any]] = defaultdict(list)

    async def answer(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        if update.message is None or update.message.text is None:
            return
        history = histories[update.message.chat_id]
        history.append({"role": "user", "content": update.message.text})
        stream = await client(model_url).chat.completions.create(model="test", messages=history, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        history.append({"role": "assistant", "content": "".join(pieces)})
        await update.message.reply_text("".join(pieces))

    builder = Application.builder().token(token).base_url(f"{api_url}/bot").base_file_url(f"{api_url}/file/bot")
    application = builder.concurrent_updates(True).pool_timeout(30).build()
    application.add_handler(MessageHandler(filters.TEXT, answer))
    application.run_polling(timeout=30)


if __name__ == "__main__":
    main(*sys.argv[1:])
