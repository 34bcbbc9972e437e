"""Editing with a trained generator: pictures as latents of it, and what is done with them."""
