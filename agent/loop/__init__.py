"""The turn loop: model steps, tool calls, interruption."""
