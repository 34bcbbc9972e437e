"""Several degradations after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limner.data.degradations.protocol import Degradation, Masking, chance, in_dtype, makes_masks, output_channels


class Chain:
    """Degradations after another, rounded once at the end (codecs round where they stand).

    shuffle: in a random order for each picture. probability: of each step; steps that change the size or the number of channels,
    or make a mask, are always applied. clean: probability that all other steps are left out, so that a network also learns
    to leave a clean picture unchanged.
    """

    def __init__(
        self, steps: Sequence[Degradation], *, shuffle: bool = False, probability: float = 1.0, clean: float = 0.0
    ) -> None:
        """Raises ValueError for no step, for a step with a mask that is not the last, and for invalid probabilities."""
        chance("probability", probability)
        chance("clean", clean)
        if not steps:
            raise ValueError("A chain needs at least one degradation.")
        if any(makes_masks(step) for step in (steps if shuffle else steps[:-1])):
            raise ValueError("Holes come last in a chain and in a fixed order: a later degradation would change what fills them.")
        self.steps, self.shuffle, self.probability, self.clean = tuple(steps), shuffle, probability, clean
        self.scale, self.masks = int(np.prod([step.scale for step in steps])), makes_masks(steps[-1])
        self.channels = 1 if any(output_channels(step, 3) == 1 for step in steps) else None

    def __repr__(self) -> str:
        return f"Chain({list(self.steps)}, shuffle={self.shuffle}, probability={self.probability}, clean={self.clean})"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._apply(image, rng)[0]

    def with_mask(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        made, mask = self._apply(image, rng)
        assert mask is not None, "only the last step makes a mask, and it is always applied"
        return made, mask

    def _apply(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (the degraded picture, the mask of the last step or None)."""
        clean, drawn = rng.random() < self.clean, rng.random(len(self.steps)) < self.probability
        order = rng.permutation(len(self.steps)) if self.shuffle else np.arange(len(self.steps))
        made, mask = image.astype(np.float32), None
        for i in order.tolist():
            step = self.steps[i]
            if makes_masks(step) and isinstance(step, Masking):
                made, mask = step.with_mask(made, rng)
            elif (drawn[i] and not clean) or step.scale > 1 or output_channels(step, 3) == 1:
                made = step(made, rng)
        return in_dtype(made, image.dtype), mask
