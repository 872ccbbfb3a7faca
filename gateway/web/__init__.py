"""The HTTP server and the conversations that it shows."""
