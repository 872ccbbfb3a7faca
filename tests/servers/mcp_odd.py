"""An MCP server that misbehaves, over stdio and without the SDK: `python tests/servers/mcp_odd.py FOLDER KIND`.

`hang` answers nothing; `flood` sends notices without end; `long` answers a call with one endless line; `noise` writes
what is no message; `old` ends when it is asked anything before `initialize`; `lie` lists tools that cannot be right;
`deaf` ignores that a call is cancelled; `ask` asks people what the file `ask.json` in the folder says, by the protocol
of 2025-11-25, and answers a call with what they answered; `page` refuses each call until the file `opened` is in the
folder, with the pages of the file `pages.json`, which a person has to open first. What arrives is written to the file
`received` in the folder, a line each.
"""

import json
import os
import sys
import threading
from pathlib import Path

FOLDER, KIND = Path(sys.argv[1]), sys.argv[2]
OBJECT = {"type": "object", "properties": {}}
LIES = [
    {"name": "good", "inputSchema": OBJECT},
    {"name": "text", "inputSchema": "an object"},
    {"name": "typo", "inputSchema": {"type": "object", "properties": {"a": {"type": "strng"}}}},
    {"name": "list", "inputSchema": {"type": "array"}},
    {"name": "elsewhere", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "https://evil.test/a"}}}},
    {"name": "large", "inputSchema": {"type": "object", "description": "x" * 100_000}},
    {"name": "blank name", "inputSchema": {"type": "object", "properties": {"a b": {}}}},
    {"name": "good", "inputSchema": OBJECT},
    {"inputSchema": OBJECT},
    {"name": "talkative", "description": "y" * 100_000, "inputSchema": OBJECT, "outputSchema": 7},
    {
        "name": "root",
        "inputSchema": {"type": "object", "anyOf": [{"required": ["a"]}], "properties": {"a": {"type": "array"}}},
    },
    "no tool",
]


def send(**message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def flood() -> None:
    while True:
        send(method="notifications/message", params={"level": "info", "data": "drip"})
        send(method="notifications/tools/list_changed")
        send(method="notifications/progress", params={"progressToken": 3, "progress": 1})


def answer(method: str, params: dict[str, object]) -> dict[str, object] | None:
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {"listChanged": True}, "logging": {}, "prompts": {}, "resources": {}},
                "serverInfo": {"name": "odd", "version": "1"},
            }
        case "tools/list":
            return {"tools": LIES if KIND == "lie" else [{"name": "odd", "inputSchema": OBJECT}]}
        case "prompts/list" | "resources/list":
            return {"prompts": 7, "resources": 7}
        case "tools/call" if KIND == "long":
            while True:
                sys.stdout.write("x" * 1_000_000)
        case "tools/call" if KIND == "deaf":
            return None
        case "tools/call" if KIND == "ask":
            send(id="asked", method="elicitation/create", params=json.loads((FOLDER / "ask.json").read_text()))
            return None
        case "tools/call":
            return {"content": [{"type": "text", "text": "called"}]}
    return {}


calls: list[object] = []
for line in sys.stdin:
    request = json.loads(line)
    if "method" not in request:
        assert request["id"] == "asked"
        answered = json.dumps(request.get("result", request.get("error")))
        send(id=calls.pop(), result={"content": [{"type": "text", "text": answered}]})
        continue
    if request["method"] == "tools/call":
        calls.append(request["id"])
    with (FOLDER / "received").open("a") as file:
        file.write(f"{request['method']}\n")
    if KIND == "hang" or "id" not in request:
        continue
    if request["method"] == "server/discover":
        if KIND == "old":
            os._exit(1)
        send(id=request["id"], error={"code": -32601, "message": "no such method"})
        continue
    if request["method"] == "tools/call" and KIND == "page" and not (FOLDER / "opened").exists():
        pages = {"elicitations": json.loads((FOLDER / "pages.json").read_text())}
        send(id=request["id"], error={"code": -32042, "message": "Sign in first", "data": pages})
        continue
    result = answer(request["method"], request.get("params", {}))
    if result is not None:
        send(id=request["id"], result=result)
    if request["method"] == "initialize" and KIND == "flood":
        threading.Thread(target=flood, daemon=True).start()
    if request["method"] == "initialize" and KIND == "noise":
        sys.stdout.write("hello\n\nnull\n[]\n{\n\xff\n")
        sys.stdout.flush()
        sys.stdout.buffer.write(b"\xff\xfe\n")
        sys.stdout.buffer.flush()
