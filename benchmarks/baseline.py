"""The baseline: the smallest Telegram bot with the same SDK and the same model client, without a gateway."""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from typing import Any

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters


@cache
def model(url: str) -> Any:
    # As expensive to import as all the rest, and not needed for polling.
    from openai import AsyncOpenAI, DefaultAioHttpClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=DefaultAioHttpClient())
    return OpenAIChatModel("test", provider=OpenAIProvider(openai_client=client))


def main(api_url: str, token: str, model_url: str) -> None:
    histories: defaultdict[int, list[Any]] = defaultdict(list)

    async def answer(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import ModelRequest

        if update.message is None or update.message.text is None:
            return
        history = histories[update.message.chat_id]
        history.append(ModelRequest.user_text_prompt(update.message.text))
        async with model_request_stream(model(model_url), history) as stream:
            async for _event in stream:
                pass
        history.append(stream.get())
        await update.message.reply_text(stream.get().text or "")

    builder = Application.builder().token(token).base_url(f"{api_url}/bot").base_file_url(f"{api_url}/file/bot")
    application = builder.concurrent_updates(True).pool_timeout(30).build()
    application.add_handler(MessageHandler(filters.TEXT, answer))
    application.run_polling(timeout=30)


if __name__ == "__main__":
    main(*sys.argv[1:])
