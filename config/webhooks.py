"""Settings of webhooks: addresses that are told of events."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from config.section import Secret, Section, WebAddress, wrong

WebhookEvent = Literal[
    "message",
    "message.state",
    "turn.started",
    "turn.step",
    "turn.parked",
    "tool.started",
    "tool.ended",
    "reply",
    "decision.asked",
    "decision.decided",
    "run.ended",
    "conversation.changed",
    "channel.trouble",
    "channel.ok",
]

PREFIX = "whsec_"
"""Begins a secret whose bytes are written as base64, as Standard Webhooks has it."""


def _readable(secret: SecretStr) -> SecretStr:
    given = secret.get_secret_value()
    if given.startswith(PREFIX):
        try:
            base64.b64decode(given.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise wrong(f'what follows "{PREFIX}" is not base64') from None
    return secret


class WebhookSettings(Section):
    """A server of yours that is told of events, with signed requests."""

    url: WebAddress = Field(
        description="URL that gets the requests. It may be an address of your own network.",
        examples=["https://tickets.example.com/interject"],
    )
    secret: Annotated[Secret, AfterValidator(_readable)] = Field(
        description='Key that signs the requests: "whsec_" and base64, or any text.',
        examples=["${WEBHOOK_SECRET}"],
    )
    events: list[WebhookEvent] = Field(
        min_length=1,
        description="What it is told: types of events.",
        examples=[["run.ended", "decision.asked"]],
    )
    conversations: list[str] | None = Field(
        default=None,
        description="Patterns of the ids of conversations whose events it is told. Default: all.",
        examples=[["slack:*"]],
    )
    channels: list[str] | None = Field(
        default=None,
        description="Names of the channels whose events it is told. Default: all.",
        examples=[["slack"]],
    )
