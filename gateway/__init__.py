"""The gateway between chat platforms and the agent.

From the top: `cli/` (command line), `assembly/` (settings to parts), `app.py` (all parts of one process), `web/` and
`inbound/`, `turns/`, `outbound/`, `lifecycle/` and `media.py`, `bus/`, `store/`, `sessions.py`. Each imports only those
below it.
"""

VERSION = "0.2.0"
"""As in pyproject.toml. Reading it from the package's metadata takes some 50 ms, and fails in a bare checkout."""
