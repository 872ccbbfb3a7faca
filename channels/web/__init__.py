"""The web channel: the web page, and the HTTP API that the page, the terminal and other programs use."""
