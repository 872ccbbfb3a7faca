"""The gateway between chat platforms and the agent.

From the top: `cli/` (command line), `assembly/` (settings to parts), `app.py` (all parts of one process), `web/` and
`inbound/`, `turns/`, `outbound/`, `lifecycle/` and `media.py`, `bus/`, `store/`, `sessions.py`. Each imports only those
below it.
"""
