"""The terminal channel: a chat in the terminal, with a gateway in the same process or a running one."""
