"""The page of several agents, held to the code: its examples are settings that do what it says."""

from __future__ import annotations

import pytest

from agent.agent import Agent
from channels.address import Address, Sender
from config.settings import Settings
from gateway.assembly.channels import access
from gateway.turns.agents import MAIN, AgentInfo, ConfiguredAgents, Route
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, page

VARIABLES = {**TOKENS, "FAMILY_BOT_TOKEN": "2:family", "OPENAI_API_KEY": "sk-key"}


def settings(operator: Operator, number: int) -> Settings:
    return operator.settings(examples(page("agents"))[number], **VARIABLES)


def test_the_examples_are_valid_settings(operator: Operator) -> None:
    names = [set(settings(operator, number).agents) for number in range(len(examples(page("agents"))))]
    assert names == [{"research"}, {"support", "builds"}, {"home"}, {"research"}, set()]
    assert settings(operator, 4).channels["slack"].topic_instructions


@pytest.mark.parametrize(
    ("example", "channel", "chat", "person", "agent"),
    [
        (1, "slack", "C012AB3CD", "U7", "builds"),
        (1, "slack", "D1", "U7", "support"),
        (2, "family", "123456789", "123456789", "home"),
        (2, "telegram", "123456789", "123456789", MAIN),
    ],
)
def test_its_routes_lead_where_it_says(
    operator: Operator, example: int, channel: str, chat: str, person: str, agent: str
) -> None:
    given = settings(operator, example)
    agents = ConfiguredAgents(
        {name: AgentInfo() for name in given.agents},
        [Route(each.agent, each.channel, each.chat, each.thread, each.person, each.role) for each in given.routes],
        build=_nobody,
        default_model=lambda name, channel: "",
        role_of=access(given).role_of,
    )
    assert agents.pick("", Address(channel, "", chat), Sender(person, "Ann")) == agent


def _nobody(name: str, channel: str) -> Agent:
    raise AssertionError("no agent is built for a route")
