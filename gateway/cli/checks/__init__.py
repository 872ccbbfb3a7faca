"""What `interject check` tests: a module per platform, one for models, one for hooks; each returns `CheckResult`s."""
