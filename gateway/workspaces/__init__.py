"""Workspaces that several machines keep in step: saved in the media store, and brought to the machine that goes on."""
