"""Losses: adversarial objectives, discriminator penalties, generator regularizers, likelihoods."""
