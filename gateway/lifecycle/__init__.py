"""Supervision, retries and background tasks."""
