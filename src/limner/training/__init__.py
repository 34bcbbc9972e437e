"""The one training loop, its state, its log and its guard."""
