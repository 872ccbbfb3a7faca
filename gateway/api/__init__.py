"""The control API: every conversation on every channel, for programs and for operators. Loaded on its first request."""
