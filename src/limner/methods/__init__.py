"""Games of players that take turns: see `methods.phase` for the protocol."""
