"""Hook runners: the chain that asks all hooks, and the three ways to write one, each loaded only when it is used."""
