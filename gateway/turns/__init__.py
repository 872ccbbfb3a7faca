"""Turns: dispatching, journal, background work, budgets, runs."""
