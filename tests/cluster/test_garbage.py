"""Notifications that no worker has sent: whoever may connect to the database can send some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg

from agent.models.scripted import ScriptedModel
from gateway.bus import wire
from tests.cluster.pair import known, two_gateways


def numbered(number: str, *messages: Any) -> str:
    return f'{{"v":{wire.VERSION},"from":"stranger","n":{number},"m":{json.dumps(messages)}}}'


def wakes(*sessions: str) -> str:
    return numbered("9", *({"k": "Wake", "session": session, "anyone": True} for session in sessions))


GARBAGE = (
    "",
    "no JSON",
    "7",
    '"text"',
    "null",
    "[]",
    "{}",
    "[" * 7_000,
    f'{{"v":{wire.VERSION}}}',
    f'{{"v":{wire.VERSION},"from":null,"n":1,"m":null}}',
    numbered("Infinity"),
    numbered("-1e999"),
    numbered("NaN"),
    numbered("[1]"),
    numbered("9" * 5_000),
    numbered("1", 7, "text", None, ["k"], [], {}),
    numbered("2", {"k": 7}, {"k": []}, {"k": {}}, {"k": "Wake"}, {"k": "Wake", "session": 7}),
    numbered(
        "3", {"k": "TurnProgress"}, {"k": "TurnProgress", "event": []}, {"k": "TurnProgress", "event": "Progress"}
    ),
    numbered("4", {"k": "TurnProgress", "logged": {"kind": "nothing"}}, {"k": "TurnProgress", "logged": 7}),
    numbered("5", {"k": "TurnEnded", "address": "x"}, {"k": "Watch", "sessions": 7}, {"k": "Stop", "session": "x"}),
    numbered("6", {"k": "Wanted", "connector": "\0"}, {"k": "Wanted", "connector": "discord:" * 800}),
    numbered("7", {"k": "Watch", "sessions": ["\0", "\ud800", "x" * 3_000]}),
    numbered("8", {"k": "Stop", "session": "\0", "before": -1, "reason": "\ud800"}),
    wakes("\0"),
    wakes("\ud800"),
    wakes("x" * 5_000),
    wakes("", "memory", "memory/me", "nothing/like/this"),
)


async def test_garbage_from_another_client_of_the_database_stops_no_worker(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel()) as (a, b):
        async with await psycopg.AsyncConnection.connect(a.url, autocommit=True) as connection:
            for payload in GARBAGE:
                await connection.execute("SELECT pg_notify('interject_' || md5(current_schema()), %s)", [payload])
        # What came before this was heard.
        await known(a.bus, b.bus)
        await known(b.bus, a.bus)
        for worker in (a, b):
            await worker.say(f"hello {worker.store.worker}")
            await worker.reply(f"hello {worker.store.worker}")
