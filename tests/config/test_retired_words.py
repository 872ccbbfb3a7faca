"""Texts for people and models use standard terms: retired words and phrases occur neither in strings nor in docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("interject", "gateway", "channels", "agent", "config")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")

RETIRED: Mapping[str, str] = {
    r"needs? leave": "needs approval",
    r"gives? (no )?leave": "approves, not approved",
    r"\w+'s leave|your leave": "approval",
    r"who may write": "allowed users (allowlist)",
    r"what (still )?runs": "running task",
    r"what (still )?waits": "queued messages",
    r"here answers": "current model",
    r"the usual one|usual (model|place|key)|/model usual": "default",
    r"this door": "sign-in link required",
    r"all the same": "anyway",
    r"shall I": "continue anyway?",
    r"reach(es)? beyond the workspace": "can access files and network outside the workspace",
    r"tak(e|es|en|ing) out( of)?:?": "removed from context",
    r"in the world": "side effects",
    r"the person asked to stop": "stopped by NAME",
    r"seen at step": "read during step",
    r"(has|in) trouble": "failed",
    r"left alone": "in cool-down",
    r"(configuration|settings?|file|it) holds?": "is valid",
    r"(there|it|tools?) clash(es)?": "conflicts",
    r"errands?": "background task",
    r"knock(s|ed)?": "sends a message",
    r"occasion": "turn context",
    r"of (its|their) own accord": "by itself",
    r"costs (itself|themselves|that \w+) only": "a failure here affects only …",
    r"be had": "available",
    r"what (was|is|were) said": "messages",
    r"(is|are|was) heard": "is read",
    r"let(s|ting)? (somebody|them|people|people who ask for it|you|unknown people)?\s*in": "access granted, approved",
    r"anew": "again",
    r"stands? there already": "is already listed",
    r"no leave": "not approved",
    r"mend(s|ed)?": "fixed, recovered",
    r"taken up again": "resumed",
    r"make of it": "result",
    r"wrapping up": "finishing up",
    r"work that runs": "running task",
    r"not (keep|kept)": "not stored",
    r"cannot be told": "is unknown",
    r"whoever runs": "the operator",
    r"house": "gateway",
}
"""A pattern of retired words, and the term to use. Whole words, in any case; white space counts as one blank."""

PATTERN = re.compile("|".join(rf"\b(?:{words})(?!\w)" for words in RETIRED), re.IGNORECASE)


def retired_in(text: str) -> list[str]:
    return [found[0] for found in PATTERN.finditer(" ".join(text.split()))]


def strings_of(source: str) -> Iterator[tuple[int, str]]:
    """The string literals of Python code with their lines: no docstrings, but those of tools, which models read."""
    tree = ast.parse(source)
    unread = {
        node.value
        for owner in ast.walk(tree)
        for node in _statements(owner)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not _is_tool(owner)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in unread:
            yield node.lineno, node.value


def _statements(owner: ast.AST) -> list[ast.stmt]:
    return owner.body if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else []


def _is_tool(owner: ast.AST) -> bool:
    names = (
        decorator.func if isinstance(decorator, ast.Call) else decorator
        for decorator in getattr(owner, "decorator_list", ())
    )
    return any(isinstance(name, ast.Name) and name.id == "tool" for name in names)


def strings_of_page(source: str) -> Iterator[tuple[int, str]]:
    """The string literals of JavaScript with their lines: no comments, no regular expressions; templates in pieces."""
    at, depths, before = 0, list[int](), ""
    while at < len(source):
        inside_template = bool(depths) and depths[-1] == 0
        found = (_TEMPLATE if inside_template else _TOKEN).match(source, at)
        assert found, source[at : at + 40]
        token = found[0]
        if inside_template or token[0] in "\"'":
            yield source.count("\n", 0, at) + 1, token
        if token.startswith("/") and found.lastgroup == "regex" and before in _BEFORE_DIVISION:
            token = "/"  # a division, as it follows a value
        if token == "`" and not inside_template:
            depths.append(0)
        elif inside_template:
            depths[-1:] = [1] if token.endswith("${") else []
        elif depths and token in "{}":
            depths[-1] += 1 if token == "{" else -1
        if token.strip() and found.lastgroup != "comment":
            before = "a" if token[-1].isalnum() or token[-1] in "_$\"'`" else token[-1]
        at += len(token)


_TEMPLATE = re.compile(r"(?:\\.|(?!\$\{)[^`\\])*(?:`|\$\{)", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""
    r"""|(?P<regex>/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/)|[\w$]+|\s+|.""",
    re.DOTALL,
)
_BEFORE_DIVISION = ("a", ")", "]")


def files(suffix: str, *folders: str) -> list[str]:
    found = (file for folder in folders for file in (ROOT / folder).rglob(f"*{suffix}"))
    return sorted(str(file.relative_to(ROOT)) for file in found if "__pycache__" not in file.parts)


@pytest.mark.parametrize("file", files(".py", *CODE))
def test_the_strings_of_the_code_have_no_retired_words(file: str) -> None:
    strings = strings_of((ROOT / file).read_text(encoding="utf-8"))
    assert [(line, words) for line, text in strings for words in retired_in(text)] == []


@pytest.mark.parametrize("file", files(".js", "channels/web/page"))
def test_the_strings_of_the_page_have_no_retired_words(file: str) -> None:
    strings = strings_of_page((ROOT / file).read_text(encoding="utf-8"))
    assert [(line, words) for line, text in strings for words in retired_in(text)] == []


@pytest.mark.parametrize(
    "file",
    [
        *PAGES,
        *files(".md", "docs", "examples"),
        *files(".yaml", "docs"),
        *files(".py", "examples"),
        *files(".sh", "examples"),
        *files(".html", "channels/web/page"),
    ],
)
def test_the_texts_have_no_retired_words(file: str) -> None:
    assert retired_in((ROOT / file).read_text(encoding="utf-8")) == []


def test_every_retired_word_is_found() -> None:
    """Examples, in the form in which they once were."""
    for text in (
        "It needs leave.",
        "Here answers the usual one.",
        "This door needs its link",
        "Shall I go on all the\n    same?",
        "It may reach beyond the workspace.",
        "Taken out: what it did in the world stays done.",
        "ended: the person asked to stop",
        "seen at step 2",
        "has trouble and is left alone for 900 s",
        "the configuration holds",
        "what waits",
        "may knock",
    ):
        assert retired_in(text), text


def test_docstrings_count_only_where_models_read_them() -> None:
    source = '''
"""errand"""
X = 1
"""errand"""
@tool(effect="read")
async def f():
    """knock"""
    return f"an {X} errand"
def g():
    """errand"""
    raise ValueError("errand")
'''
    found = [words for _, text in strings_of(source) for words in retired_in(text)]
    assert sorted(found) == ["errand", "errand", "knock"]


def test_comments_of_the_page_do_not_count() -> None:
    source = """\
// an errand
const a = 'what waits'; /* errand */ const b = `the ${a ? `old ${a}` : "knock"} errand`;
const c = a / 2 + b.replace(/[/'"`]errand/g, "") / 3; const d = "errands"; `${{ a }}` // errand
"""
    found = [(line, words) for line, text in strings_of_page(source) for words in retired_in(text)]
    assert found == [(2, "what waits"), (2, "knock"), (2, "errand"), (3, "errands")]
