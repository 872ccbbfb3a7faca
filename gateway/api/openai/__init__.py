"""The OpenAI-compatible endpoint: an agent as a model, for programs that exist."""
