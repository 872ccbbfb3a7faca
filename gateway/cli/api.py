"""`interject api`: prints the description of the HTTP API."""

from __future__ import annotations

import json
import sys


def show_description() -> int:
    """OpenAPI as JSON. Needs neither settings nor a gateway."""
    from gateway.api.app import description

    sys.stdout.write(f"{json.dumps(description(), indent=2, ensure_ascii=False)}\n")
    return 0
