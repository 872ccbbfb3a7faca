"""Telegram, through the Bot API: `parse` reads updates, `render` writes messages, `channel` moves both."""
