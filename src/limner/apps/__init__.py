"""Uses of a trained model: sample, translate, encode, reconstruct, evaluate, diagnose."""
