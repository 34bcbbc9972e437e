"""Degradations of a clean picture, one module a kind: `data.degrade` lists them by name and makes training pairs with them."""
