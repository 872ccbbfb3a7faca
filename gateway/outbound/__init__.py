"""Replies on their way out: building, wording, delivery."""
