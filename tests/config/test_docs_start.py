"""The tutorials in docs/start, held to the code: what they show is accepted, asked and done."""

import re
from pathlib import Path

import pytest

from agent.hook import Ask, Deny, HookContext, Ruled, ToolCall
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import python_hook
from config.hooks import PythonHookSettings
from gateway.cli.init import Person, ask
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, page
from tests.screens.architecture import architecture

HERE = HookContext(session="s", channel="web", run_id="r", sender="Ada")


def shell(command: str) -> ToolCall:
    return ToolCall("c1", "shell", {"command": command}, "external")


@pytest.mark.parametrize("name", ["first-minute", "slack-team", "first-hook"])
def test_their_examples_are_valid_settings(operator: Operator, name: str) -> None:
    assert examples(page(name))
    for example in examples(page(name)):
        operator.settings(example, **TOKENS)


@pytest.mark.parametrize("which", [0, 1], ids=["the first", "the precise one"])
async def test_the_first_hook_loads_where_the_page_puts_it_and_does_what_the_page_says(
    operator: Operator, which: int
) -> None:
    code = re.findall(r"^```python\n(.*?)^```", page("first-hook"), re.MULTILINE | re.DOTALL)[which]
    file = operator.file.parent / "hooks" / "careful.py"
    file.parent.mkdir()
    file.write_text(code, encoding="utf-8")
    (settings,) = operator.settings(examples(page("first-hook"))[0]).hooks
    assert isinstance(settings, PythonHookSettings)
    points = tuple(settings.points)

    async with HookChain([RegisteredHook(settings.name, python_hook(settings.path, points), points)]) as chain:
        rulings = [
            (await chain.ask("approve_tool", HERE, shell(command)))[1] for command in ("ls", "rm -r x", "sudo ls")
        ]
        _, other = await chain.ask("approve_tool", HERE, ToolCall("c2", "list_files", {}, "read"))

    asked = Ruled(Ask("Ada started it from web"), "careful")
    precise = [None, Ruled(Ask("it deletes files"), "careful"), Ruled(Deny("no commands as root"), "careful")]
    assert rulings == ([asked] * 3, precise)[which]
    assert other is None


def test_init_asks_what_the_page_of_slack_shows(tmp_path: Path) -> None:
    shown = re.findall(r"^    ((?:Model|Base URL|openai API|Add|Bot|App|Allowed).*)$", page("slack-team"), re.MULTILINE)
    answers = {"Model": "openai:gpt-5", "Add a Slack": "y", "Allowed": "U012AB3CD"}
    asked: list[str] = []

    def answer(prompt: str) -> str:
        given = next((text for start, text in answers.items() if prompt.startswith(start)), "")
        asked.append(f"{prompt}{given}".strip())
        return given

    ask(Person(answer, answer), tmp_path)

    assert asked == [line.strip() for line in shown]


def test_the_picture_of_the_architecture_shows_the_imports_as_they_are() -> None:
    """`python -m tests.screens architecture` makes it again."""
    file = Path(__file__).parents[2] / "docs" / "images" / "architecture.svg"
    assert file.read_text(encoding="utf-8") == architecture()
