"""Python code that a model has run: the real gateway, the real sandbox, pictures in the chat."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from agent.tools.sandbox import SandboxUnavailable, probe_sandbox
from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_from_settings import KEY, person
from tests.gateway.test_images import results, script
from tests.servers.models import Call, ModelServer, Say
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

PLOT = """\
import matplotlib.pyplot as plt
plt.plot([1, 3, 2])
plt.show()
plt.figure()
plt.bar(["a", "b"], [2, 1])
"""


@pytest.fixture
async def sandbox() -> None:
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(f"NO SANDBOX HERE, so run_python is NOT TESTED: {error}")


def runs(code: str, **arguments: object) -> Call:
    return Call("run_python", {"code": code, **arguments})


async def test_plots_are_shown_as_pictures_whether_they_are_shown_or_left_open(
    tmp_path: Path, api: BotApi, models: ModelServer, sandbox: None
) -> None:
    models.script([Say("I plot."), runs(PLOT)], Say("There."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("plot")
        await ann.hear("There.")
    shown = [message.text or ("photo" if message.photo else "") for message in ann.messages]
    assert shown == ["I plot.", "photo", "photo", "There."]
    assert "[2 pictures are shown to the person: figure-1.png, figure-2.png]" in results(models.requests[1])[0]
    assert api.refusals == []


PACKAGES = "import docx, matplotlib, numpy, openpyxl, PIL, pptx, pypdf"

SHOWN = {
    "the value of the last line": ("x = 6\nx * 7", "42\n[exit code 0]"),
    "no value": ("x = None\nx", "[exit code 0]"),
    "output, then the value": ("print('one')\n[2]", "one\n[2]\n[exit code 0]"),
    "the libraries": (f"{PACKAGES}\nint(numpy.arange(3).sum())", "3\n[exit code 0]"),
    "a picture as the value": (
        "from PIL import Image\nImage.new('RGB', (9, 9))",
        "[exit code 0]\n[1 picture is shown to the person: figure-1.png]",
    ),
    "an error, from the code's own line on": (
        "def f():\n    return 1 / 0\nf()",
        'Traceback (most recent call last):\n  File "<code>", line 3, in <module>\n    f()\n',
    ),
    "an error of syntax": ("x = = 1", "SyntaxError: invalid syntax"),
    "an exit": ("import sys\nsys.exit(3)", "[exit code 3]"),
    "files of the workspace": ("open('note.txt', 'w').write('hi')\nopen('note.txt').read()", "'hi'\n[exit code 0]"),
    "modules of the workspace": (
        "open('own.py', 'w').write('x = 5')\nimport own\nown.x",
        "5\n[exit code 0]",
    ),
    "more pictures than are kept": (
        "import matplotlib.pyplot as plt\nfor n in range(12): plt.figure(figsize=(1, 1))",
        "[Only the first 10 pictures are kept.]",
    ),
    "a limit of time": ("import time\nprint('begun', flush=True)\ntime.sleep(60)", "begun\n[stopped: the command took"),
    "code that is too long": ("#" * 130_000, "The code is too long for one call: write it to a file of the workspace"),
}


async def test_what_the_model_is_told(tmp_path: Path, models: ModelServer, sandbox: None) -> None:
    """All in one conversation: each call is a process of its own."""
    calls = [runs(code, timeout_seconds=1 if "sleep" in code else 60) for code, _ in SHOWN.values()]
    models.respond(script(*calls, Say("Done.")))
    async with person(tmp_path, models) as ann:
        await ann.asks("run")
    last = next(request for request in reversed(models.requests) if request.model == "big")
    told = dict(zip(SHOWN, results(last), strict=True))
    missing = {name: told[name] for name, (_, words) in SHOWN.items() if words not in told[name]}
    assert missing == {}
    assert not any(name.startswith(".pictures") for _, names, _ in os.walk(tmp_path) for name in names)


async def test_what_it_prints_is_shown_as_it_comes_and_a_message_moves_it_to_the_background(
    tmp_path: Path, models: ModelServer, sandbox: None
) -> None:
    code = "import os, time\nprint('half way')\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('all done')"
    models.respond(script(runs(code), Say("It goes on."), Say("It has ended.")))
    async with person(tmp_path, models) as ann:
        await ann.say("run")
        await ann.sees(lambda replies: bool(replies) and "half way" in str(replies[-1]["segments"]))
        await ann.say("how is it?")
        await ann.sees(lambda replies: "It goes on." in str(replies))
        (tmp_path / "home" / "workspace" / "go").touch()
        await ann.sees(lambda replies: "It has ended." in str(replies))
    assert "all done" in str(models.requests[-1].messages)


ATTACKS = {
    "the settings": "open({settings!r}).read()",
    "the database": "open({home!r} + '/interject.db', 'rb').read()",
    "the token of the web chat": "open({home!r} + '/web-token').read()",
    "the gateway's environment": "open('/proc/{pid}/environ', 'rb').read()",
    "others' files": "os.listdir({home!r} + '/media')",
    "the network": "socket.create_connection(('127.0.0.1', {port}), 5)",
    "the gateway's own Python": "open(os.path.join(sys.prefix, 'lib', 'own.py'), 'w')",
    "what is beside that": "os.listdir({beside!r})",
    "the home of the gateway's user": "os.listdir(os.path.expanduser('~gateway') + '/..') and open('/root/.bashrc')",
}


async def test_nothing_of_the_gateway_is_within_reach(
    tmp_path: Path, api: BotApi, models: ModelServer, sandbox: None
) -> None:
    names = {
        "settings": str(tmp_path / "interject.toml"),
        "home": str(tmp_path / "home"),
        "pid": os.getpid(),
        "port": api.url.rpartition(":")[2].partition("/")[0],
        "beside": str(Path(__file__).parents[2] / "tests"),
    }
    attempts = {name: attack.format(**names) for name, attack in ATTACKS.items()}
    code = (
        "import json, os, socket, sys\n"
        "found = {}\n"
        f"for name, attack in {attempts!r}.items():\n"
        "    try: found[name] = repr(eval(attack))[:80]\n"
        "    except OSError as error: pass\n"
        "print(json.dumps(found))\n"
    )
    models.script(runs(code), Say("Tried."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("try")
        await ann.hear("Tried.")
    told = results(models.requests[1])[0]
    assert json.loads(told.splitlines()[0]) == {}, told


async def test_guests_get_nothing_that_runs_code(tmp_path: Path, slack: Slack, models: ModelServer) -> None:
    ann, gus = slack.person("Ann"), slack.person("Gus")
    (tmp_path / "interject.toml").write_text(
        '[agent]\nmodel = "openai:big"\n[web]\nenabled = false\n[tools.shell]\nsandbox = "none"\n'
        f'[models.openai]\napi_key = "{KEY}"\nbase_url = "{models.openai_url}"\n'
        f'[channels.slack]\nbot_token = "{slack.bot_token}"\napp_token = "{slack.app_token}"\n'
        f'api_url = "{slack.api_url}"\nallow = ["{ann.id}"]\nguests = ["{gus.id}"]\n'
    )
    models.respond(lambda request: Say(f"{len({'shell', 'run_python'} & set(request.tools))} of them."))
    async with gateway(tmp_path / "interject.toml"):
        for who, words in ((gus, "0 of them."), (ann, "2 of them.")):
            await slack.direct(who).say("hi")
            await slack.direct(who).hear(words)


async def test_without_a_sandbox_it_is_not_offered_on_chat_platforms(
    tmp_path: Path, api: BotApi, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "python3"):
        (tools / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tools))
    models.script(Say("Hello."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
    assert not {"shell", "run_python"} & set(models.requests[0].tools)
    assert "read_file" in models.requests[0].tools
