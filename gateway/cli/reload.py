"""`interject reload`: has the running gateway take over the settings as they are now."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gateway.cli.reload_socket import NoAnswer, ask_to_reload


def reload(home: Path, *, as_json: bool) -> int:
    """Prints what was changed, or why everything stays as it was. Returns the exit code: 1 if the gateway has refused,
    or if none runs."""
    try:
        reloaded = ask_to_reload(home)
    except NoAnswer as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if as_json:
        sys.stdout.write(f"{json.dumps({'refused': reloaded.is_refused, 'text': reloaded.text})}\n")
    else:
        (sys.stderr if reloaded.is_refused else sys.stdout).write(f"{reloaded.text}\n")
    return 1 if reloaded.is_refused else 0
