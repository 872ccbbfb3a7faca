"""Notes over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.api.conftest import control_api
from tests.api.test_keys import new_key
from tests.api.test_messages import send
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi

HERE = "/conversations/web:local:one"
THERE = "/conversations/web:local:two"


def answer(request: Request) -> Say | Call:
    noted = Call("memory", {"action": "add", "note": f"{request.last_user_text} is worth knowing."})
    return Say("Noted.") if request.messages[-1].role == "tool" else noted


async def test_notes_of_the_owner_are_theirs_and_those_of_a_program_its_conversations(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(answer)
    async with control_api(tmp_path, api, models) as control:
        owner = control.client
        await send(owner, "Tea")
        _, key = await new_key(control, "chat", conversations=["web:local:two"])
        async with control.using(key) as program:
            sent = await program.post(
                f"{THERE}/messages", params={"wait": 60}, json={"client_id": "message-1", "text": "Coffee"}
            )
            assert sent.status_code == 200
            theirs = (await program.get(f"{THERE}/memory")).json()["notes"]
            assert [note["text"] for note in theirs] == ["Coffee is worth knowing."]
            assert (await program.get(f"{HERE}/memory")).status_code == 404
            [own] = (await owner.get(f"{THERE}/memory")).json()["notes"]
            assert own["text"] == "Tea is worth knowing."
            refused = await program.delete(f"{THERE}/memory/{own['id']}")
            assert (refused.status_code, refused.json()["code"]) == (404, "note_not_found")
        assert [own] == (await owner.get(f"{HERE}/memory")).json()["notes"]
        assert (await owner.delete(f"{HERE}/memory/{own['id']}")).json() == own
        assert (await owner.get(f"{HERE}/memory")).json() == {"notes": []}
    assert "Tea is worth knowing." not in str(models.requests[-1].body)
