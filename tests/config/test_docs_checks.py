"""What the docs say about `interject check --online`, held to the checks against the platforms' local servers."""

import re

import httpx
import pytest

from config.channels import ChannelSettings
from gateway.cli.checks.channels import check_channel
from gateway.cli.checks.slack import SLACK_SCOPES
from tests.config.conftest import Operator
from tests.config.test_docs import in_first_column, page, section
from tests.servers.discord import Discord
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi


async def checked(channel: ChannelSettings) -> list[str]:
    async with httpx.AsyncClient() as client:
        return [str(result) for result in await check_channel(client, channel.type, channel)]


async def slack_lines(operator: Operator, way_in: str) -> list[str]:
    async with Slack(name="interject", scopes=SLACK_SCOPES) as server:
        toml = f'bot_token = "{server.bot_token}"\n{way_in.format(server)}\napi_url = "{server.api_url}"\n'
        return await checked(only_channel(operator, f'[channels.slack]\n{toml}allow = ["U012AB3CD"]\n'))


def only_channel(operator: Operator, toml: str) -> ChannelSettings:
    (channel,) = operator.settings(toml).channels.values()
    return channel


async def lines_of(operator: Operator, platform: str) -> list[str]:
    match platform:
        case "slack":
            socket_mode, http = 'app_token = "{0.app_token}"', 'signing_secret = "s"'
            return [*await slack_lines(operator, socket_mode), *await slack_lines(operator, http)]
        case "discord":
            async with Discord() as server:
                toml = f'token = "{server.token}"\napi_url = "{server.api_url}"\ngateway_url = "{server.gateway_url}"\n'
                return await checked(only_channel(operator, f"[channels.discord]\n{toml}"))
        case _:
            async with BotApi() as api:
                toml = f'token = "{api.token}"\napi_url = "{api.url}"\n'
                return await checked(only_channel(operator, f"[channels.telegram]\n{toml}"))


@pytest.mark.parametrize("platform", ["slack", "discord", "telegram"])
async def test_the_page_of_a_platform_lists_the_lines_of_its_check(operator: Operator, platform: str) -> None:
    parts = {line.split(":")[0].split(f" {platform} ")[1] for line in await lines_of(operator, platform)}
    assert set(in_first_column(section(page(platform), "Check"))) == parts


async def test_the_tutorial_shows_the_lines_of_slacks_check_as_they_are(operator: Operator) -> None:
    shown = re.findall(r"^ +(ok  slack .*)$", page("slack-team"), re.MULTILINE)
    lines = await slack_lines(operator, 'app_token = "{0.app_token}"')
    assert shown == [line.strip().replace("workspace Test", "workspace Example") for line in lines]
