"""Negative log-likelihoods of pictures and KL divergences of latents: per sample and unreduced, in nats, [N].

Likelihoods are of the 8-bit picture x [N,C,H,W] in [-1,1], whose levels are 2/255 apart, under the parameters [N,P,H,W] of a
decoder in `networks.vae`. A new likelihood is a new entry of the dict.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.core.clamp import clamp_with_gradient

LEVEL = 2 / 255  # distance of two neighboring levels


def gaussian(x: Tensor, parameters: Tensor) -> Tensor:
    """Return the Gaussian NLL; parameters: mean and log scale.

    A level's probability is approximated by the density times the width of a level. The scale is at least half a level, so
    that it never exceeds 1.
    """
    mean, log_scale = parameters.chunk(2, 1)
    log_scale = clamp_with_gradient(log_scale, log(LEVEL / 2), inf)
    nats = 0.5 * ((x - mean) * torch.exp(-log_scale)).square() + log_scale + (0.5 * log(2 * pi) - log(LEVEL))
    return nats.sum((1, 2, 3))


def bernoulli(x: Tensor, parameters: Tensor) -> Tensor:
    """Return the Bernoulli NLL (binary cross-entropy); parameters: logits.

    Gray levels are the targets' probabilities of white (Kingma & Welling 2014, appendix C.1): a likelihood only for black
    and white pictures, so that its bits do not compare with those of 8-bit pictures.
    """
    return F.binary_cross_entropy_with_logits(parameters, (x + 1) / 2, reduction="none").sum((1, 2, 3))


def logistic_mixture(x: Tensor, parameters: Tensor) -> Tensor:
    """Return the NLL of a discretized mixture of logistics (Salimans et al. 2017, eq. 2); parameters: weights, means, scales.

    The density is integrated over each level, and over everything beyond for the first and last: it sums to 1 over the 256
    levels.
    """
    c = x.shape[1]
    grouped = parameters.unflatten(1, (1 + 2 * c, -1))  # [N,1+2C,K,H,W]
    weights, means, scales = grouped[:, 0], grouped[:, 1 : 1 + c], clamp_with_gradient(grouped[:, 1 + c :], -7, 3)
    centered = x[:, :, None] - means  # [N,C,K,H,W]
    inverse = torch.exp(-scales)
    above, below = (centered + LEVEL / 2) * inverse, (centered - LEVEL / 2) * inverse
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): exact in the log, however far from the mean
    inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-LEVEL * inverse))
    first, last = x[:, :, None] <= -1 + LEVEL / 2, x[:, :, None] >= 1 - LEVEL / 2
    log_probability = torch.where(first, F.logsigmoid(above), torch.where(last, F.logsigmoid(-below), inside))
    mixed = torch.logsumexp(weights.log_softmax(1) + log_probability.sum(1), 1)  # [N,H,W]
    return -mixed.sum((1, 2))


LIKELIHOODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "logistic": logistic_mixture,
}


def likelihood(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a negative log-likelihood by name. Raises ValueError for an unknown name."""
    if name not in LIKELIHOODS:
        raise ValueError(f"The likelihood {name!r} is unknown: choose {', '.join(LIKELIHOODS)}.")
    return LIKELIHOODS[name]


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) per dimension (Kingma & Welling 2014, appendix B). [N,Z], [N,Z] -> [N,Z]"""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def with_free_bits(kl: Tensor, bits: float) -> Tensor:
    """Return the KL divergence with free bits: each dimension costs at least `bits`. [N,Z] -> [N]

    Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", eq. 15. The paper takes the
    maximum with the mean over the minibatch; here it is taken per picture, so that micro-batches and ranks give the same
    loss.
    """
    return kl.clamp_min(bits * log(2)).sum(1) if bits else kl.sum(1)


def bits_per_dimension(nats: Tensor, x: Tensor) -> Tensor:
    """Convert nats per picture [N] to bits per dimension of x [N,C,H,W]."""
    return nats / (x[0].numel() * log(2))
