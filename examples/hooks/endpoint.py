"""A hook as an HTTP endpoint: hides email addresses from the model, with Python's standard library only.

    HOOK_SECRET=... python3 examples/hooks/endpoint.py 8787

    [[hooks]]
    name = "addresses"
    type = "http"
    url = "http://127.0.0.1:8787/"
    secret = "${HOOK_SECRET}"
    points = ["on_message"]

It accepts only requests signed with the secret within the last five minutes.
"""

import hashlib
import hmac
import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["HOOK_SECRET"]
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
MAX_BODY = 1_048_576
MAX_AGE = 300
"""Bytes and seconds."""


def decide(question):
    """The decision about the message."""
    text = question["subject"]["text"]
    if "BEGIN PRIVATE KEY" in text:
        return {"decision": "deny", "reason": "do not send private keys"}
    if ADDRESS.search(text):
        return {"decision": "modify", "change": {"text": ADDRESS.sub("[an address]", text)}}
    return {"decision": "continue"}


def is_signed(timestamp, signature, body):
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > MAX_AGE:
        return False
    expected = hmac.new(SECRET.encode(), f"v1:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v1={expected}".encode(), signature.encode())


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length", "0")), MAX_BODY))
        timestamp = self.headers.get("X-Interject-Timestamp", "")
        if not is_signed(timestamp, self.headers.get("X-Interject-Signature", ""), body):
            self.send_error(401)
            return
        answer = json.dumps(decide(json.loads(body))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Endpoint) as server:
    sys.stdout.write(f"listening on http://127.0.0.1:{server.server_port}/\n")
    sys.stdout.flush()
    server.serve_forever()
