"""A hook as a process: reviews tool calls, with Python's standard library only.

    [[hooks]]
    name = "review"
    type = "process"
    command = ["python3", "examples/hooks/review.py"]
    points = ["before_tool", "approve_tool", "after_tool"]

It reads one JSON object per line from stdin and writes one per line to stdout, flushed. The gateway logs its stderr.
"""

import json
import re
import sys

KEY = re.compile(r"sk-[A-Za-z0-9_-]{16,}")


def decide(point, context, subject):
    """The decision about the subject."""
    if point == "before_tool" and subject["tool"] == "shell" and "sudo " in subject["arguments"].get("command", ""):
        return {"decision": "deny", "reason": "commands as root are not allowed"}
    if point == "approve_tool" and subject["effect"] == "external" and context["channel"] != "terminal":
        return {"decision": "ask", "reason": f"{context['sender'] or 'somebody'} is not at the terminal"}
    if point == "after_tool" and KEY.search(subject["text"]):
        return {"decision": "modify", "change": {"text": KEY.sub("[a key]", subject["text"])}}
    return {"decision": "continue"}


def answer(method, params):
    if method == "initialize":
        sys.stderr.write(f"reviewing as {params['name']}\n")
        return {"protocol": 1}
    if method == "ping":
        return {}
    return decide(method.removeprefix("hook/"), params["context"], params["subject"])


for line in sys.stdin:
    question = json.loads(line)
    if "id" in question:
        result = answer(question["method"], question["params"])
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": result}) + "\n")
        sys.stdout.flush()
