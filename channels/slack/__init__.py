"""Slack, through the Web API, with Socket Mode or HTTP for events."""
