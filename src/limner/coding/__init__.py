"""Entropy coding: probability tables, the coder, and the container of compressed pictures."""
