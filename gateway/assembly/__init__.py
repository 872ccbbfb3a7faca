"""Builds the gateway from settings. Only `gateway.assembly.build` puts the parts together."""
