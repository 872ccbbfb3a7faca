"""Discord, through its gateway and REST API: `parse` reads events, `render` writes messages, `channel` moves both."""

import warnings

with warnings.catch_warnings():
    # The library's voice part, which is not for us, imports a module that Python 3.13 is without.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import discord as discord
