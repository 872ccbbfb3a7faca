"""Mouths and ears: one folder per platform, alike inside."""
