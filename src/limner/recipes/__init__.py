"""Recipes: one file a family, each stating every decision of its runs: its configuration, its data, its experiment."""
