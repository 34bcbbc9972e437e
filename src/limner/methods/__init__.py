"""Training algorithms as players that take turns: see `methods.phase` for the protocol."""
