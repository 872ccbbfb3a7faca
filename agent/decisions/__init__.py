"""Decisions and input from people: approvals, questions, and results of external tools."""
