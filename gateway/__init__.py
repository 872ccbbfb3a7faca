"""The house: store, sessions, dispatch, delivery, commands and the command line."""
