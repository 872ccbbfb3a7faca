"""People and their access, over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.api.conftest import control_api
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi

ACCESS = 'admins = ["1"]\nallow = ["@cleo"]\npair = true'


async def test_somebody_is_admitted_by_code_and_loses_access_with_what_runs(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say("Hello."), [Pause(), Say("Too late.")])
    async with control_api(tmp_path, api, models, access=ACCESS) as control:
        ann = api.private(7, "Ann")
        await ann.say("let me in")
        await ann.hear("/pair")
        (request,) = (await control.client.get("/people")).json()["requests"]
        assert (request["channel"], request["id"], request["name"]) == ("telegram", "7", "Ann")

        paired = await control.client.post("/people/pair", json={"code": request["code"].lower()})
        assert paired.json() == {"channel": "telegram", "id": "7", "name": "Ann"}
        await ann.hear("Your access was approved.")
        await ann.say("hi")
        await ann.hear("Hello.")

        await ann.say("work")
        await models.until_held()
        revoked = await control.client.post("/people/revoke", json={"channel": "telegram", "id": "7"})
        assert revoked.status_code == 200
        await ann.hear("access was revoked")
        people = (await control.client.get("/people")).json()
        again = await control.client.post("/people/revoke", json={"channel": "telegram", "id": "7"})
        events = (await control.client.get("/audit")).json()["events"]
    assert people["paired"] == []
    assert [(each["list"], each["user"]) for each in people["listed"]] == [("admin", "1"), ("allow", "@cleo")]
    assert (again.status_code, again.json()["code"]) == (404, "not_paired")
    assert [(each["event"], each["actor"]) for each in events if each["event"] in ("admitted", "revoked")] == [
        ("revoked", "web:owner"),
        ("admitted", "web:owner"),
    ]


async def test_an_unknown_code_admits_nobody(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models, access=ACCESS) as control:
        answer = await control.client.post("/people/pair", json={"code": "ABCDEFGH"})
    assert (answer.status_code, answer.json()["code"]) == (404, "code_unknown")
