"""Discord, through its gateway (WebSocket) and REST API."""

import warnings

with warnings.catch_warnings():
    # The library's voice support, which is not used, imports a module that Python 3.13 does not have.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import discord as discord
