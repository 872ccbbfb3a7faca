"""The terminal channel: chatting where one works, in the gateway's own process or with one that runs elsewhere."""
