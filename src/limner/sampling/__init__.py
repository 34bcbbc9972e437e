"""Drawing from generators: one function for previews, validators, evaluation and trained models."""
