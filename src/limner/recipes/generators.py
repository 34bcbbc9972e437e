"""Generators of pictures: adversarial networks on pixels, and in the latents of an autoencoder."""

from __future__ import annotations

from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.decode import Progress
from limner.data.request import DataRequest
from limner.recipes import gan, latent
from limner.recipes.config import LatentRecipe, Recipe
from limner.recipes.sources import load_single_set
from limner.runs.experiment import Experiment
from limner.runs.options import Options

RECIPES = (Recipe, LatentRecipe)
PRESETS = {**gan.PRESETS, **latent.PRESETS}


def load_data(recipe: Recipe | LatentRecipe, request: DataRequest, progress: Progress | None = None) -> Dataset:
    """Return the pictures of a generator, with their classes. Raises ValueError for unreadable data and meaningless options."""
    return load_single_set(request, progress)


def build(name: str, recipe: Recipe | LatentRecipe, dataset: Dataset, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict or need more memory than is free."""
    if isinstance(recipe, LatentRecipe):
        return latent.build(name, recipe, dataset, options, machine)
    return gan.build(name, recipe, dataset, options, machine)
