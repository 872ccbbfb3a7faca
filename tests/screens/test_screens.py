"""The conversations of the pictures play to their end, and what they are to show stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.screens import GROUPS, group
from tests.screens.story import CHOSEN, ENDED, FORECAST, play


@pytest.mark.parametrize("platform", GROUPS)
async def test_the_picture_of_a_group_shows_what_people_can_do_there(tmp_path: Path, platform: str) -> None:
    async with group(platform) as screen:
        html = await play(screen, tmp_path)
    shown = [html.index(words) for words in ("interrupted", "FROM scales", "data:image/png", CHOSEN, ENDED, FORECAST)]
    assert shown == sorted(shown)
    assert "Stop" in html
    assert html.count('class="pill"') == 3
