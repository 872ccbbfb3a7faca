"""What the agent may write is apart from what the gateway is made of, and without a sandbox nobody gets a shell."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.load import load
from gateway.assembly.shell_policy import shell_policy, who_may_run_commands
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

HOOK = '[[hooks]]\nname = "guard"\ntype = "python"\npath = "hooks/guard.py:Guard"\npoints = ["before_tool"]\n'
PROGRAM = (
    '[[hooks]]\nname = "guard"\ntype = "process"\ncommand = ["python3", "hooks/guard.py"]\npoints = ["on_event"]\n'
)


def problems(folder: Path, text: str) -> str:
    (folder / "hooks").mkdir(exist_ok=True)
    (folder / "hooks" / "guard.py").touch()
    (folder / "who.md").touch()
    (folder / "interject.toml").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(folder / "interject.toml", {"BOT_TOKEN": "x"}, folder / "home")
    return "\n".join(str(problem) for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('[agent]\nworkspace = "."\n', "contains the data directory"),
        ('[agent]\nworkspace = "home"\n', "contains the data directory"),
        ('[agent]\nworkspace = "/"\n', "contains the data directory"),
        ('[media]\npath = "home/../home"\n', "contains the data directory"),
        ('[agent]\nworkspace = "data"\n[store]\nurl = "sqlite:///data/my.db"\n', "contains the database"),
        (f'[agent]\nworkspace = "hooks"\n{HOOK}', "contains the hook guard"),
        (f'[media]\npath = "hooks"\n{PROGRAM}', "contains the hook guard"),
        ('[agent]\nworkspace = "files/all"\n[media]\npath = "files"\n', "contain one another"),
    ],
)
def test_a_workspace_with_the_gateways_own_files_is_refused(tmp_path: Path, settings: str, told: str) -> None:
    assert told in problems(tmp_path, settings)


def test_a_workspace_that_is_a_link_to_such_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert "contains the data directory" in problems(tmp_path, '[agent]\nworkspace = "link"\n')


@pytest.mark.parametrize("name", ["BOT_TOKEN", "OPENAI_API_KEY", "INTERJECT_HOME"])
def test_variables_of_the_settings_cannot_be_given_to_commands(tmp_path: Path, name: str) -> None:
    channel = '[channels.telegram]\ntoken = "${BOT_TOKEN}"\nallow = ["7"]\n'
    shell = f'[tools.shell]\nenvironment = ["LESS", "{name}"]\n'
    assert f"environment[1]: {name} holds a setting of the gateway" in problems(tmp_path, channel + shell)


@pytest.fixture
def _no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "cat"):
        (programs / name).symlink_to(shutil.which(name) or sys.executable)
    monkeypatch.setenv("PATH", str(programs))


@pytest.mark.usefixtures("_no_bubblewrap")
@pytest.mark.parametrize(
    ("more", "offered", "told"),
    [
        ("", False, "no sandbox, and not offered on telegram: the program bwrap is not installed"),
        ('[tools.shell]\nsandbox = "none"\n', True, "all allowed users of telegram can run commands on this host"),
        ('[tools]\nenabled = ["read_file"]\n', False, "off"),
    ],
)
async def test_without_bubblewrap_the_shell_is_not_offered_in_chats(
    tmp_path: Path, more: str, offered: bool, told: str
) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.script(Say("Hello."))
        file = write_settings(tmp_path, api, models, more=more)
        configuration = load(file, {}, tmp_path / "home")
        assert told in who_may_run_commands(configuration.settings, await shell_policy(configuration))
        async with gateway(file):
            ann = api.private(user_id=7, name="Ann")
            await ann.say("hi")
            await ann.until(lambda chat: "Hello." in chat.texts or None)
        assert ("shell" in models.requests[0].tools) is offered
