"""Whether the database can be upgraded to this version's schema."""

from __future__ import annotations

from config.load import Configuration
from gateway.cli.checks.result import CheckResult
from gateway.cli.home import describe_error
from gateway.store.errors import StoreError
from gateway.store.upgrade_rehearsal import rehearse_upgrade


def check_upgrade(configuration: Configuration) -> CheckResult:
    """Tries the upgrade on a copy, beside a running gateway or without one."""
    try:
        tried = rehearse_upgrade(configuration.settings.store.url)
    except (StoreError, OSError) as error:
        return CheckResult("upgrade", False, describe_error(error, configuration.home))
    if tried is None:
        return CheckResult("upgrade", True, "there is no database yet")
    if tried.is_usable:
        return CheckResult("upgrade", True, f"nothing to do, the database has the schema {tried.found}")
    what = f"from the schema {tried.found} to {tried.newest} in {tried.seconds:.1f} s, with {tried.conversations} "
    if tried.on_copy:
        text = (
            f"a copy of the database went {what}conversations. The gateway does the same when it starts, after a backup"
        )
    else:
        text = (
            f"the database went {what}conversations, and back. The gateway does the same when it starts; back up before"
        )
    return CheckResult("upgrade", True, text)
