"""Models: those of providers, the built-in demo, and a scripted one for tests."""
