"""Which settings a reload takes over: the list is right, and the page says the same."""

from __future__ import annotations

from config.reload import AT_START, changed, in_force
from config.settings import Settings
from tests.config.test_docs import in_first_column, page, section


def test_the_page_names_what_takes_effect_at_a_start_only() -> None:
    told = in_first_column(section(page("operate"), "Reload"))
    assert told == [f"[{section}] {setting}" for section, _, setting in (key.partition(".") for key in AT_START)]


def test_what_takes_effect_at_a_start_stays_as_it_is_and_all_else_is_taken_over() -> None:
    running = Settings.model_validate({"web": {"port": 1}, "agent": {"model": "demo", "shutdown_grace": 1}})
    webhook = {"url": "https://example.com", "secret": "s", "events": ["run.ended"]}
    new = Settings.model_validate(
        {
            "web": {"port": 2, "show_reasoning": True},
            "agent": {"max_steps": 3, "shutdown_grace": 2},
            "webhooks": [webhook],
        }
    )
    used = in_force(running, new)
    assert (used.web.port, used.agent.shutdown_grace) == (1, 1)
    assert (used.web.show_reasoning, used.agent.max_steps, len(used.webhooks)) == (True, 3, 1)
    assert changed(used, new) == ("[agent] shutdown_grace", "[web] port")
    for key in AT_START:
        part: object = new
        for name in key.split("."):
            part = getattr(part, name)


def test_a_section_that_came_or_went_is_named_once() -> None:
    agent = {"agents": {"red": {"model": "demo"}}}
    other = {"agents": {"blue": {"model": "demo"}}}
    before, after = Settings.model_validate(agent), Settings.model_validate(other)
    assert changed(before, after) == ("[agents.blue] (new)", "[agents.red] (removed)")
    assert changed(before, before) == ()
