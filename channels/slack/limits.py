"""Slack's limits on what an app sends, each with its source. Texts are counted in characters."""

from __future__ import annotations

UPDATED_TEXT = 4000
"""https://docs.slack.dev/reference/methods/chat.update. A new message may have more, but each of ours may be edited."""

MARKDOWN = 12_000
"""Of all markdown blocks of a message: https://docs.slack.dev/reference/block-kit/blocks/markdown-block. Of one
markdown_text in a stream: https://docs.slack.dev/reference/methods/chat.appendStream"""

BLOCKS_TEXT = 13_200
"""Of all blocks of a message together, as reported: https://github.com/slackapi/bolt-js/issues/2509"""

BLOCKS = 50
"""https://docs.slack.dev/reference/block-kit/blocks"""

SECTION = 3000
"""https://docs.slack.dev/reference/block-kit/blocks/section-block"""

ACTIONS = 25
"""Elements of one block: https://docs.slack.dev/reference/block-kit/blocks/actions-block"""

BUTTON_LABEL = 75
BUTTON_VALUE = 2000
"""https://docs.slack.dev/reference/block-kit/block-elements/button-element has both."""

TASK_TITLE = 256
"""https://docs.slack.dev/reference/methods/chat.startStream"""

SESSION_TITLE = 200
"""https://docs.slack.dev/reference/methods/agents.sessions.rename"""

PROMPTS = 4
"""https://docs.slack.dev/reference/methods/assistant.threads.setSuggestedPrompts"""

ALT_TEXT = 1000
"""https://docs.slack.dev/reference/methods/files.getUploadURLExternal"""

FILE_BYTES = 1_000_000_000
"""https://slack.com/help/articles/201330736"""
