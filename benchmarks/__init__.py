"""How fast and how light the gateway is, measured beside a floor: the same SDKs without a gateway."""
