"""The HTTP server, and the conversations that the web chat shows."""
