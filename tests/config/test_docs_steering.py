"""The pages of steering, approvals and cost, held to the code."""

import re
from typing import get_args

import pytest

from agent.context.compaction import SUMMARIZING
from agent.decisions.approvals import APPROVAL_OPTIONS, LIMIT_OPTIONS
from agent.log import ApprovalDecided, ApprovalDecision, ApprovalRequested, Outcome
from agent.log_state import LOOP_REPEATS
from agent.loop.turn import MAX_RESTARTS
from agent.models.waiting_notice import STILL_WAITING
from agent.tool import Approval
from agent.tools import TOOL_NAMES, load_tools
from config.settings import AgentSettings, LimitSettings
from config.tools import ToolSettings
from gateway.outbound.call_lines import describe_decision
from gateway.outbound.wording import usage
from gateway.store.decision_words import parse_decision
from gateway.store.records import BusyMode, RunState, UsageTotals
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, in_first_column, page, section


@pytest.mark.parametrize("name", ["steering", "approvals", "cost"])
def test_their_examples_are_valid_settings(operator: Operator, name: str) -> None:
    assert examples(page(name))
    for example in examples(page(name)):
        operator.settings(example, **TOKENS)


def test_the_page_of_steering_says_of_every_tool_what_a_message_does_to_it() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| (yes|no) \|$", section(page("steering"), "Running calls"), re.MULTILINE
    )
    tools = [tool for tool in load_tools(TOOL_NAMES) if not tool.asks]
    assert sorted(rows) == sorted(
        (tool.name, tool.effect, tool.on_steer, "yes" if tool.repeatable else "no") for tool in tools
    )


def test_the_page_of_steering_has_every_mode_every_outcome_and_every_end_of_a_run() -> None:
    text = page("steering")
    assert tuple(in_first_column(section(text, "A message while the agent works"))) == get_args(BusyMode)
    told = section(text, "Running calls").partition("What the model is told")[2]
    assert {name for row in re.findall(r"^\| [^|]* \| ([^|]*) \|", told, re.MULTILINE) for name in code(row)} == set(
        get_args(Outcome)
    )
    ends, _, under_way = section(text, "How a run ends").partition("Until then")
    assert set(in_first_column(ends)) | set(code(under_way)) == set(get_args(RunState))


def test_the_page_of_steering_has_the_numbers_of_the_code() -> None:
    limits = LimitSettings()
    text, delivery = (" ".join(page(name).split()) for name in ("steering", "delivery"))
    assert f"the same result {LOOP_REPEATS[1]} times in a row" in text
    assert f"the same 2 to {max(LOOP_REPEATS)} calls with the same results {LOOP_REPEATS[2]} times in a row" in text
    assert f"that {MAX_RESTARTS} restarts in a row interrupt" in delivery
    assert f"At most {limits.delegate_running} calls" in text
    assert f"have `shutdown_grace` seconds ({AgentSettings().shutdown_grace};" in delivery


def test_the_page_of_approvals_has_every_setting_option_and_decision() -> None:
    text = page("approvals")
    assert tuple(in_first_column(section(text, "Settings"))) == get_args(Approval)
    assert f"approval_expires = {ToolSettings().approval_expires} " in text
    for options in (APPROVAL_OPTIONS, LIMIT_OPTIONS):
        assert "  ".join(f"{number}\\) {option}" for number, option in enumerate(options, 1)) in text
    assert tuple(in_first_column(section(text, "What the model is told"))) == get_args(ApprovalDecision)


def test_the_words_on_the_page_of_approvals_decide_what_it_says() -> None:
    rows = re.findall(r"^\| (allow once|allow for this conversation|deny[^|]*) \| (.*) \|$", page("approvals"), re.M)
    verdicts = {"allow once": "allowed", "allow for this conversation": "allowed_always"}
    assert len(rows) == 4
    for says, words in rows:
        for spoken in (*code(words), *re.findall(r"[👍👎]", words)):
            decided = parse_decision(spoken, "call")
            assert decided is not None, spoken
            assert decided.decision == verdicts.get(says, "denied")
            assert bool(decided.reason) == (says == "deny, with a reason")
    assert parse_decision("yes, but only in /tmp", "call") is None


def test_the_page_of_cost_has_every_limit_on_it() -> None:
    named = in_first_column(section(page("cost"), "Limits"))
    assert named == [name for name in LimitSettings.model_fields if name.endswith("_cost")]


def test_the_pages_quote_lines_as_they_are_shown() -> None:
    bills = [(0.02, 1, 1200, 1000, 80), (0.06, 3, 3600, 3000, 240), (0.09, 5, 6000, 5000, 400)]
    for cost, calls, read, cached, written in bills:
        totals = UsageTotals(cost=cost, calls=calls, input=read, cache_read=cached, output=written)
        assert usage(totals) in page("cost")
    assert f"`{SUMMARIZING}`" in page("context")
    assert f"*{STILL_WAITING}*" in page("models")
    for decision in get_args(ApprovalDecision):
        reason = "use the staging database" if decision == "denied" else ""
        request = ApprovalRequested("c", "call", "", (), 0)
        shown, _ = describe_decision(request, ApprovalDecided("c", decision, "Ann", reason))
        assert f"| {shown} |" in page("approvals"), shown


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)
