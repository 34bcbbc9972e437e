"""Losses of semi-supervised classification. Losses are per sample and unreduced: [N,K] -> [N]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def real_logit(logits: Tensor) -> Tensor:
    """Return the logit of "real" that K class logits imply: log Z, so that D(x) = sigmoid(log Z) = Z / (Z + 1). [N,K] -> [N]

    Salimans et al. 2016, section 5: Z(x) = sum_k exp(l_k(x)). It is a softmax over K + 1 classes whose last logit, of
    generated pictures, is fixed at 0: subtracting a function from all logits does not change a softmax.
    """
    return torch.logsumexp(logits, 1)


def real_loss(logits: Tensor) -> Tensor:
    """Return -log D(x) of real pictures of unknown class (Salimans et al. 2016, section 5, L_unsupervised). [N,K] -> [N]"""
    return F.softplus(-real_logit(logits))


def generated_loss(logits: Tensor) -> Tensor:
    """Return -log(1 - D(x)) of generated pictures (Salimans et al. 2016, section 5, L_unsupervised). [N,K] -> [N]"""
    return F.softplus(real_logit(logits))


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the class probabilities, in nats: the conditional entropy term of Dai et al. 2017. [N,K] -> [N]"""
    log_p = F.log_softmax(logits, 1)
    return -(log_p.exp() * log_p).sum(1)


def pull_away(features: Tensor) -> Tensor:
    """Return the mean squared cosine between the features of two different pictures. [N,F] -> []

    The pull-away term of Zhao et al. 2017, "Energy-based generative adversarial network", section 2.4; Dai et al. 2017
    use it to raise the entropy of the generator. 0 for fewer than two pictures.
    """
    n = len(features)
    if n < 2:
        return features.new_zeros(())
    unit = F.normalize(features, dim=1)
    squares = (unit @ unit.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))
