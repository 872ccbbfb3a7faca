"""The schema of the database, on both engines."""

from __future__ import annotations

from gateway.cli.doctor.finding import Finding
from gateway.store.schema import REVISION
from gateway.store.schema_support import is_usable


def schema_finding(schema: tuple[str, str] | None) -> Finding:
    """`schema`: the revision of the database, and the oldest one whose programs may use it; None: it has none."""
    if schema is None:
        return Finding("schema", "ok", "there are no tables yet; the first start makes them")
    found, oldest = schema
    if found == REVISION:
        return Finding("schema", "ok", found)
    if is_usable(found, oldest):
        return Finding(
            "schema", "ok", f"{found}, which is newer than {REVISION} of this version, and can be used by it"
        )
    why = f"this version of interject needs {REVISION}"
    do = "back up, then restart the gateway with this version; it upgrades the database (or install the newer version)"
    return Finding("schema", "warning", found or "none", why, do)
