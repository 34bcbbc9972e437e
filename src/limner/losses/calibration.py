"""Calibration of class probabilities: the temperature by which a classifier's logits are divided before the softmax.

Guo et al. 2017, "On calibration of modern neural networks", section 4.2 (temperature scaling): one number, chosen on pictures
that were not trained on, so that a probability of 0.8 is right in about 80 of 100 cases. It changes no prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor

RANGE = (0.01, 100.0)  # of the temperature
STEPS = 60  # halvings of the interval of log temperature: below the resolution of float64


def calibrated_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T > 0 that minimizes the cross-entropy of softmax(logits / T), in float64.

    logits: [N,K] of held-out pictures. labels: int64 [N], the right classes. 1 for no pictures.

    The targets are smoothed as if one more picture had been seen that belongs to every class equally: (n+1/K)/(n+1) for the
    label and (1/K)/(n+1) for the others, as Platt 2000 ("Probabilistic outputs for support vector machines", section 2.2) does
    for two classes. Without it, a classifier that makes no mistake on few pictures would get T = 0, which is certainty. The
    cross-entropy is convex in 1/T, so its derivative has one sign change, which bisection finds without a step size.
    """
    n, k = logits.shape
    if not n or k < 2:
        return 1.0
    logits, labels = logits.detach().double().cpu(), labels.cpu()
    logits = logits - logits.mean(1, keepdim=True)
    target = logits.gather(1, labels[:, None])[:, 0] * (n / (n + 1))  # [N], the mean logit under the smoothed target

    def slope(temperature: float) -> float:
        """The derivative of the cross-entropy by 1/T."""
        expected = ((logits / temperature).softmax(1) * logits).sum(1)  # [N], the mean logit under the prediction
        return float((expected - target).mean())

    low, high = (float(torch.tensor(t, dtype=torch.float64).log()) for t in RANGE)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if slope(float(torch.tensor(middle, dtype=torch.float64).exp())) > 0:  # too sure: the temperature must rise
            low = middle
        else:
            high = middle
    return float(torch.tensor((low + high) / 2, dtype=torch.float64).exp())
