"""How good are these pictures, how varied, and are they copies? Every measure, and one call that does it all."""

from limner.evaluation.compare import Probe, Result, evaluate, known
from limner.evaluation.inputs import Pictures, pictures
from limner.evaluation.paired import PAIRED

__all__ = ["PAIRED", "Pictures", "Probe", "Result", "evaluate", "known", "pictures"]
