"""The parts of a house, each made from what is set for it. Only `gateway.assembly.build` puts them together."""
