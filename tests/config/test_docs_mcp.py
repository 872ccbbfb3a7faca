"""The page of the MCP servers and its settings, held to the code; its example runs."""

import asyncio
import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from textwrap import dedent

import pytest

from agent.interrupt import cancel_and_wait
from agent.testing import MemoryMedia
from agent.tool import ToolContext
from config.load import load
from config.mcp import McpProgramSettings, McpSection, McpToolRules, McpUrlSettings
from config.section import Section
from gateway.assembly.mcp import open_mcp
from tests.config.conftest import Operator
from tests.config.test_docs import ROOT, TOKENS, examples, in_first_column, page, section


def test_the_examples_of_the_page_are_valid_settings(operator: Operator) -> None:
    names = [list(operator.settings(example, **TOKENS).mcp) for example in examples(page("mcp"))]
    assert names == [["dice"], ["github", "docs"], ["browser"], ["mail"]]


async def test_the_server_of_the_page_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", page("mcp"), re.MULTILINE | re.DOTALL)
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "dice.py").write_text(code)
    settings = examples(page("mcp"))[0].replace('"env/bin/python"', f'"{sys.executable}"')
    (tmp_path / "interject.toml").write_text(settings)
    async with AsyncExitStack() as stack:
        (server,) = await open_mcp(load(tmp_path / "interject.toml", {}, tmp_path / "home"), stack)
        assert str(await server.settled()) == "1 tool"
        (roll,) = server
        result = await roll.call(ToolContext(tmp_path, MemoryMedia(), _nobody_sees), '{"sides": 1}')
    assert (roll.name, roll.effect, result.text) == ("dice_roll", "read", "1")


async def test_the_example_server_runs_with_the_settings_that_it_names_and_its_count_is_cancelled(
    tmp_path: Path,
) -> None:
    example = (ROOT / "examples" / "mcp" / "stock.py").read_text()
    (settings,) = re.findall(r"^    \[mcp\.stock\]\n(?:(?:    .*)?\n)+", example, re.MULTILINE)
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "stock.py").write_text(example)
    (tmp_path / "interject.toml").write_text(dedent(settings).replace('"python3"', f'"{sys.executable}"'))
    began = asyncio.Event()

    async def progress(text: str) -> None:
        if "box 1 of 9" in text:
            began.set()

    async with AsyncExitStack() as stack:
        (server,) = await open_mcp(load(tmp_path / "interject.toml", {}, tmp_path / "home"), stack)
        assert str(await server.settled()) == "2 tools"
        tools = {tool.name: tool for tool in server}
        listing, counting = tools["stock_list_shelves"], tools["stock_count_shelf"]
        count = asyncio.create_task(
            counting.call(ToolContext(tmp_path, MemoryMedia(), progress), '{"shelf": "coffee"}')
        )
        await began.wait()
        await cancel_and_wait(count)
        result = await listing.call(ToolContext(tmp_path, MemoryMedia(), _nobody_sees), "{}")
    assert (listing.approval, counting.approval, counting.on_steer) == ("never", "never", "cancel")
    assert "coffee: not counted yet" in result.text


async def _nobody_sees(text: str) -> None:
    pass


OWN = {
    "A program on this machine:": McpProgramSettings.model_fields.keys() - McpSection.model_fields.keys(),
    "A server on the network:": McpUrlSettings.model_fields.keys() - McpSection.model_fields.keys(),
    "Of both:": McpSection.model_fields.keys() - {"tools"},
    "`[mcp.<server>.tools.<tool>]` has": McpToolRules.model_fields.keys(),
}


@pytest.mark.parametrize("table", OWN)
def test_every_setting_is_named_in_its_table(table: str) -> None:
    text = section(page("settings"), "mcp").partition(table)[2]
    rows = re.search(r"\n\n\| setting \|.*?(?:\n\n|\Z)", text, re.DOTALL)
    assert rows is not None
    assert set(in_first_column(rows[0])) == set(OWN[table])


@pytest.mark.parametrize("model", [McpProgramSettings, McpUrlSettings])
def test_a_default_is_shown_as_it_is(model: type[Section]) -> None:
    shown = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", section(page("settings"), "mcp"), re.MULTILINE))
    for name, field in model.fields().items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            written = "" if default is None else json.dumps(default)
            assert shown.get(name, "") == (f"{default:g}" if isinstance(default, float) else written)


@pytest.mark.parametrize(
    ("toml", "wrong"),
    [
        ("[mcp.a]\n", "mcp.a: needs either command or url"),
        ('[mcp.a]\ncommand = ["x"]\nurl = "https://x.test"\n', "mcp.a: needs either command or url"),
        ('[mcp.a_b]\ncommand = ["x"]\n', 'lower-case letters, digits and "-"'),
        ('[mcp.a]\ncommand = ["x"]\nheaders = { A = "b" }\n', "mcp.a.headers: no such setting"),
        ('[mcp.a]\ncommand = ["x"]\nenvironment = ["OPENAI_API_KEY"]\n', "other programs never get"),
        ('[mcp.a]\ncommand = ["x"]\n[mcp.a.tools.b]\napproval = "maybe"\n', "mcp.a.tools.b.approval"),
    ],
)
def test_what_is_wrong_is_refused_with_its_key(operator: Operator, toml: str, wrong: str) -> None:
    (problem,) = operator.refused(toml)
    assert wrong in problem
