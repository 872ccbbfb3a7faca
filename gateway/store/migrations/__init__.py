"""Alembic's environment: how the schema came to be, one revision after the other."""
