"""How fast and how light the gateway is, measured beside a baseline: the same SDKs without a gateway."""
