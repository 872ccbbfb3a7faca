"""Discord's limits on what a bot sends, each with its source. Texts are counted in UTF-16 units, of which there
are never fewer than of Discord's characters."""

from __future__ import annotations

CONTENT = 2000
"""https://discord.com/developers/docs/resources/message#create-message"""

FILES = 10
"""Of one message: https://discord.com/developers/docs/resources/message#create-message"""

FILE_BYTES = 10 * 1024 * 1024
"""https://discord.com/developers/docs/reference#uploading-files"""

REQUEST_BYTES = 25 * 1024 * 1024
"""https://discord.com/developers/docs/resources/message#create-message, the rest of the request included."""

ALT_TEXT = 1024
"""https://discord.com/developers/docs/resources/message#attachment-object"""

NONCE = 25
"""https://discord.com/developers/docs/resources/message#create-message"""

COMPONENTS = 40
"""Of one message, with those inside others: https://discord.com/developers/docs/components/reference"""

COMPONENTS_TEXT = 4000
"""Of all text displays of one message: https://discord.com/developers/docs/components/reference#text-display"""

ROWS = 5
"""Of a message without components v2: https://discord.com/developers/docs/components/using-message-components"""

ROW = 5
"""Buttons in one row: https://discord.com/developers/docs/components/reference#action-row"""

BUTTON_LABEL = 80
CUSTOM_ID = 100
"""https://discord.com/developers/docs/components/reference#button has both."""

COMMANDS = 100
"""https://discord.com/developers/docs/interactions/application-commands#registering-a-command"""

COMMAND_NAME = 32
COMMAND_DESCRIPTION = 100
"""https://discord.com/developers/docs/interactions/application-commands#application-command-object"""
