"""The web channel: the gateway's own page, and the API that the page and the terminal client speak."""
