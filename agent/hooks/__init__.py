"""Hooks: the chain that calls them, and runners for Python, processes and HTTP, each loaded only when used."""
