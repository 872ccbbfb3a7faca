"""What an operator does with the program in its first days, one step after the other, by the real commands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from interject.client import ApiError, AsyncInterject
from tests.install.service import PROGRAM, ROOT, Service, service

PLACE = "web:local:day"


@dataclass(frozen=True)
class Machine:
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"INTERJECT_WEB__PORT": "0", "NO_PROXY": "127.0.0.1"}

    async def call(self, *arguments: str, code: int = 0) -> str:
        """What the command prints."""
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "INTERJECT_HOME": str(self.folder / "home")}
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *arguments,
            cwd=self.folder,
            env=given | self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == code, output.decode()
        return output.decode()

    def client(self, running: Service, key: str) -> AsyncInterject:
        return AsyncInterject(json.loads((running.home / "gateway.json").read_text())["link"].partition("/?")[0], key)


@pytest.mark.crash
async def test_an_operators_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    machine = Machine(tmp_path)
    settings = tmp_path / "interject.toml"
    await machine.call("init")
    assert "The configuration is valid" in await machine.call("check")

    async with service(tmp_path, **machine.environment) as running:
        assert json.loads(await machine.call("status", "--json"))["running"] is True
        key = (await machine.call("keys", "create", "--name", "operations", "--scope", "operate")).split()[-1]
        async with machine.client(running, key) as interject:
            drawn = await interject.ask(PLACE, "draw a chart")
            assert (drawn.state, len(drawn.files)) == ("completed", 1)
            assert await interject.read_file(drawn.files[0].url)
        assert "draw_chart" in await machine.call("trace", drawn.run)
        assert PLACE.replace(":", "/") in await machine.call("sessions", "--json")
        async with running.api() as api:
            assert (await api.get("/readyz")).status_code == 200
            metrics = await api.get("/metrics", headers={"Authorization": f"Bearer {key}"})
        assert re.search(
            r'^interject_turns_total{channel="web",.*outcome="completed"} 1\.0$', metrics.text, re.MULTILINE
        )

        good = settings.read_text()
        settings.write_text(good.replace("[limits]\n", "[limits]\nturn_cost = 1.5\n"))
        assert "`[limits] turn_cost`" in await machine.call("reload")
        settings.write_text(good.replace("[limits]\n", "[limits]\nturn_cost = -1\n"))
        assert "turn_cost" in await machine.call("reload", code=1)
        settings.write_text(good)

        await machine.call("backup", "day.zip")
        async with machine.client(running, key) as interject:
            slow = await interject.send(PLACE, "research something slow")
            await _started(interject, slow.run or "")
        await running.end(signal.SIGKILL)

    async with service(tmp_path, **machine.environment) as running, machine.client(running, key) as interject:
        await _started(interject, slow.run or "")
        assert (await interject.stop(PLACE)).turn == slow.run
        assert (await interject.wait(slow.run or "", to_end=True)).state == "stopped"
        assert await running.end(signal.SIGTERM) == 0

    await machine.call("restore", "day.zip", "--force")
    assert "upgrade: nothing to do" in await machine.call("check", "--upgrade")
    async with service(tmp_path, **machine.environment) as running, machine.client(running, key) as interject:
        assert (await interject.run(drawn.run)).files == drawn.files
        assert await interject.read_file(drawn.files[0].url)
        with pytest.raises(ApiError) as later:
            await interject.run(slow.run or "")
        assert later.value.code == "run_not_found"
        assert "0 problems" in await machine.call("doctor")


async def _started(interject: AsyncInterject, run: str) -> None:
    """Returns when the turn runs."""
    async for event in interject.events(PLACE):
        if event.type == "snapshot" and (await interject.run(run)).state == "running":
            return
        if event.type == "turn.started":
            return
