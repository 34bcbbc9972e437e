"""One run: its budget, its folder, its previews and validation, and the model that it publishes."""
