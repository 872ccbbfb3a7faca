"""The configuration: every setting with its default, validation, and the commented template."""
