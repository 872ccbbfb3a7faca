"""A conversation within the model's context window: counting tokens, compaction."""
