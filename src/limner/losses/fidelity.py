"""How probable a picture is, and how far a code is from its prior: per sample and unreduced, in nats, [N].

Likelihoods are of the 8-bit picture x [N,C,H,W] in [-1,1], whose levels are 2/255 apart, under the parameters
[N,P,H,W] that `networks.vae` lays out. A new likelihood is one more value in the dict.
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
    """Mean and log scale. The density times the width of a level stands for the level's probability; the scale is at
    least half a level, so that this never exceeds 1."""
    mean, log_scale = parameters.chunk(2, 1)
    log_scale = clamp_with_gradient(log_scale, log(LEVEL / 2), inf)
    nats = 0.5 * ((x - mean) * torch.exp(-log_scale)).square() + log_scale + (0.5 * log(2 * pi) - log(LEVEL))
    return nats.sum((1, 2, 3))


def bernoulli(x: Tensor, parameters: Tensor) -> Tensor:
    """Logits. Gray levels are read as chances of white (Kingma & Welling 2014, appendix C.1): a likelihood of black and
    white pictures, a distance for others, so its bits are not those of an 8-bit picture."""
    return F.binary_cross_entropy_with_logits(parameters, (x + 1) / 2, reduction="none").sum((1, 2, 3))


def logistic_mixture(x: Tensor, parameters: Tensor) -> Tensor:
    """A mixture of logistics, integrated over each level; the first and last take all that lies beyond (Salimans et al.
    2017, eq. 2). Sums to 1 over the 256 levels."""
    c = x.shape[1]
    parts = parameters.unflatten(1, (1 + 2 * c, -1))  # [N,1+2C,K,H,W]
    weights, means, scales = parts[:, 0], parts[:, 1 : 1 + c], clamp_with_gradient(parts[:, 1 + c :], -7, 3)
    centered = x[:, :, None] - means  # [N,C,K,H,W]
    inverse = torch.exp(-scales)
    above, below = (centered + LEVEL / 2) * inverse, (centered - LEVEL / 2) * inverse
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): exact in the log, however far from the mean
    inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-LEVEL * inverse))
    first, last = x[:, :, None] <= -1 + LEVEL / 2, x[:, :, None] >= 1 - LEVEL / 2
    log_chance = torch.where(first, F.logsigmoid(above), torch.where(last, F.logsigmoid(-below), inside))
    mixed = torch.logsumexp(weights.log_softmax(1) + log_chance.sum(1), 1)  # [N,H,W]
    return -mixed.sum((1, 2))


LIKELIHOODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "logistic": logistic_mixture,
}


def likelihood(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The likelihood of a name. Raises ValueError for an unknown one."""
    if name not in LIKELIHOODS:
        raise ValueError(f"The likelihood {name!r} is not known: say {', '.join(LIKELIHOODS)}.")
    return LIKELIHOODS[name]


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each number (Kingma & Welling 2014, appendix B). [N,Z], [N,Z] -> [N,Z]"""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def with_free_bits(kl: Tensor, bits: float) -> Tensor:
    """[N,Z] -> [N]: each number may cost `bits` before it counts (Kingma et al. 2016, "Improved variational inference
    with inverse autoregressive flow", eq. 15).

    The paper takes the floor of the mean over the minibatch; here it is taken picture by picture, so that a batch cut
    into slices or shared by ranks gives the same loss.
    """
    return kl.clamp_min(bits * log(2)).sum(1) if bits else kl.sum(1)


def bits_per_dimension(nats: Tensor, x: Tensor) -> Tensor:
    """Nats a picture [N] -> bits a number of the picture x [N,C,H,W]."""
    return nats / (x[0].numel() * log(2))
