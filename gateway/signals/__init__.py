"""Signals for operators' tools: metrics, health, log lines and traces, gathered from what the gateway's parts tell."""
