"""MCP: tools of other programs, over the Model Context Protocol (https://modelcontextprotocol.io).

`server.py` is one configured server as a toolset. Only `connection.py` and `transports.py` import the SDK; they are
loaded when the first server starts.
"""
