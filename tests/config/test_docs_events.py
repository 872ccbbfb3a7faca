"""The page of the events, held to the code."""

from __future__ import annotations

from typing import get_args

from config.webhooks import WebhookEvent
from gateway.api.events import types
from tests.config.conftest import Operator
from tests.config.test_docs import examples, in_first_column, page, section

FOR_STREAMS_ONLY = {"snapshot", "reset", "ping", "reply.changed"}


def test_every_type_of_event_is_named() -> None:
    assert sorted(in_first_column(section(page("events"), "Types"))) == sorted(types())


def test_webhooks_can_be_told_of_every_event_that_is_not_for_streams_only() -> None:
    assert set(get_args(WebhookEvent)) == set(types()) - FOR_STREAMS_ONLY
    said = page("events").rpartition("\n- ")[2]
    assert all(f"`{type}`" in said for type in FOR_STREAMS_ONLY)


def test_its_example_is_valid_settings(operator: Operator) -> None:
    (example,) = examples(page("events"))
    (webhook,) = operator.settings(f"{example}\n[channels.slack]\nbot_token = 'xoxb-1'\napp_token = 'xapp-1'").webhooks
    assert webhook.events == ["run.ended", "decision.asked"]
