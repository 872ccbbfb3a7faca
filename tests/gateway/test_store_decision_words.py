"""Decisions in short messages: phrases in several languages, and above all what is not a decision."""

from __future__ import annotations

import pytest

from agent.log import ApprovalDecision
from gateway.store.decision_words import ParsedDecision, parse_decision


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("yes", "allowed"),
        (" Yes! ", "allowed"),
        ("OK.", "allowed"),
        ("allow once", "allowed"),
        ("Yes, please", "allowed"),
        ("👍🏽", "allowed"),
        ("ja", "allowed"),
        ("D\N{RIGHT SINGLE QUOTATION MARK}accord", "allowed"),
        ("oui", "allowed"),
        ("Sí", "allowed"),
        ("si", "allowed"),
        ("always", "allowed_always"),
        ("Allow for this conversation", "allowed_always"),
        ("immer", "allowed_always"),
        ("für dieses Gespräch erlauben", "allowed_always"),
        ("toujours", "allowed_always"),
        ("siempre", "allowed_always"),
        ("no", "denied"),
        ("Deny!", "denied"),
        ("nein", "denied"),
        ("Non.", "denied"),
        ("👎", "denied"),
    ],
)
def test_phrases_that_decide(text: str, decision: ApprovalDecision) -> None:
    assert parse_decision(text, "call") == ParsedDecision(decision)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no, because it is Friday", "because it is Friday"),
        ("deny: use the other file", "use the other file"),
        ("No. Use the other file.", "Use the other file."),
        ("no because it is Friday", "because it is Friday"),
        ("Nein, weil heute Freitag ist", "weil heute Freitag ist"),
        ("non — pas maintenant", "pas maintenant"),
        ("no\nnot today,\nplease", "not today,\nplease"),
    ],
)
def test_a_denial_may_give_a_reason(text: str, reason: str) -> None:
    assert parse_decision(text, "call") == ParsedDecision("denied", reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "yes, but only the first",
        "ok?",
        "yes?",
        "no problem",
        "no-one said that",
        "no idea what that is",
        "allow it if the tests pass",
        "always ask me first",
        "what does it do?",
        "okay so here is another thing",
        "norway",
    ],
)
def test_other_messages_decide_nothing(text: str) -> None:
    assert parse_decision(text, "call") is None


def test_a_limit_cannot_be_extended_always() -> None:
    assert parse_decision("always", "limit") is None
    assert parse_decision("yes", "limit") == ParsedDecision("allowed")
    assert parse_decision("stop here", "limit") == ParsedDecision("denied")
