"""Generators of pictures: adversarial networks on pixels, in the latents of an autoencoder, and of clips."""

from __future__ import annotations

from typing import Any

from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.clips import ClipPictures
from limner.data.decode import Progress
from limner.data.request import DataRequest
from limner.recipes import gan, latent, motion
from limner.recipes.config import LatentRecipe, MotionRecipe, Recipe
from limner.recipes.sources import load_single_set
from limner.runs.experiment import Experiment
from limner.runs.options import Options

RECIPES = (Recipe, LatentRecipe, MotionRecipe)
PRESETS = {**gan.PRESETS, **latent.PRESETS, **motion.PRESETS}


def load_data(
    recipe: Recipe | LatentRecipe | MotionRecipe, request: DataRequest, progress: Progress | None = None
) -> Dataset | ClipPictures:
    """Return the pictures of a generator, with their classes, or its clips. Raises ValueError for unreadable data and meaningless options."""
    if isinstance(recipe, MotionRecipe):
        return motion.load_data(recipe, request, progress)
    return load_single_set(request, progress)


def build(name: str, recipe: Recipe | LatentRecipe | MotionRecipe, dataset: Any, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict or need more memory than is free."""
    if isinstance(recipe, MotionRecipe):
        return motion.build(name, recipe, dataset, options, machine)
    if isinstance(recipe, LatentRecipe):
        return latent.build(name, recipe, dataset, options, machine)
    return gan.build(name, recipe, dataset, options, machine)
