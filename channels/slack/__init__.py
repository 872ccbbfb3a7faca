"""Slack, by Web API, Socket Mode or HTTP: `parse` reads events, `render` writes messages, `channel` moves both."""
