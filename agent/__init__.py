"""The agent without a chat platform: turn loop, tools, hooks and models, usable as a library.

From the top: `loop/` and `hooks/`, `agent.py`, `models/`, `context/` and `files/`, `tools/`, `decisions/`, and below
them the types that all share.
"""
