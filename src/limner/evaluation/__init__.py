"""Metrics of quality, diversity and memorization of pictures, and `evaluate`, which computes them all."""

from limner.evaluation.compare import FrechetProbe, Result, evaluate, validate_metrics
from limner.evaluation.inputs import ImageSet, load_image_set
from limner.evaluation.paired import PAIRED

__all__ = ["PAIRED", "FrechetProbe", "ImageSet", "Result", "evaluate", "load_image_set", "validate_metrics"]
