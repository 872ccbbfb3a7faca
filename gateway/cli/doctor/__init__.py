"""What `interject doctor` looks at: a module per part of the installation; each returns `Finding`s."""
