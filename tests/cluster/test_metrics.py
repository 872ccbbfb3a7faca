"""What workers tell a scraper of each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.sites import Site, two_sites
from tests.gateway.stage import write_settings
from tests.gateway.test_signals import Scrape
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")


async def scraped(site: Site) -> Scrape:
    async with site.client(site.token) as client:
        return Scrape((await client.get("/metrics")).text)


async def test_leases_connectors_and_the_delay_of_notifications_are_told(tmp_path: Path) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.respond(lambda _: Say("Hello."))
        settings = write_settings(tmp_path, api, models, more="[store]\nlease = 600\n")
        ann = api.private(7, "Ann")
        async with two_sites(settings) as (one, other):
            await ann.say("hi")
            await ann.hear("Hello.")
            both = [await scraped(site) for site in (one, other)]
            assert [each.value("lease_valid") for each in both] == [1, 1]
            assert sum(each.value("channel_connections", channel="telegram") or 0 for each in both) == 1
            told = [each.value("notification_seconds_count") for each in both]
            assert max(filter(None, told)) > 0
