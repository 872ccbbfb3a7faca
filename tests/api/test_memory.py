"""Notes over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.api.conftest import control_api
from tests.api.test_keys import new_key
from tests.api.test_messages import send
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi, Person

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


async def test_a_key_for_some_agents_forgets_no_notes_of_others(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(answer)
    async with control_api(tmp_path, api, models, more="[agents.clerk]\ndescription = 'Answers.'\n") as control:
        ann = api.private()
        await ann.say("Tea")
        await ann.hear("Noted.")
        place = f"/conversations/telegram:123456:{ann.id}/memory"
        [note] = (await control.client.get(place)).json()["notes"]
        _, secret = await new_key(control, "operate", agents=["clerk"])
        async with control.using(secret) as program:
            refused = await program.delete(f"{place}/{note['id']}")
            assert (refused.status_code, refused.json()["code"]) == (403, "agent_not_allowed")
        assert (await control.client.get(place)).json() == {"notes": [note]}


async def test_in_a_group_a_program_forgets_its_own_notes_only_unless_it_operates(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(answer)
    access = 'allow = ["*"]\ngroups = "all"'
    async with control_api(tmp_path, api, models, access=access) as control:
        ann, group = Person(7, "Ann"), api.group(people=[Person(7, "Ann")])
        await group.say("Tea", sender=ann)
        await group.hear("Noted.")
        here = f"/conversations/telegram:123456:{group.id}"
        [hers] = (await control.client.get(f"{here}/memory")).json()["notes"]
        _, writes = await new_key(control, "chat")
        _, operates = await new_key(control, "operate")
        async with control.using(writes) as program:
            sent = {"client_id": "message-1", "text": "Coffee"}
            assert (await program.post(f"{here}/messages", params={"wait": 60}, json=sent)).status_code == 200
            [_, its] = (await program.get(f"{here}/memory")).json()["notes"]
            refused = await program.delete(f"{here}/memory/{hers['id']}")
            assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
            assert (await program.delete(f"{here}/memory/{its['id']}")).json() == its
        async with control.using(operates) as program:
            assert (await program.delete(f"{here}/memory/{hers['id']}")).json() == hers
        assert (await control.client.get(f"{here}/memory")).json() == {"notes": []}
