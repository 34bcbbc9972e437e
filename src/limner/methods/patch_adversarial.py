"""Adversarial losses with patch discriminators, shared by the unpaired translators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.losses.penalties import patch_gradient_at, requires_input_grad, squared_gradient_norms
from limner.methods.phase import Terms


class PatchAdversarialLoss:
    """Losses with a discriminator that gives each patch a logit, x [N,C,H,W] -> [N,h,w]; the loss of a picture is their mean.

    penalty, gamma: gamma/2 |grad D|^2 of the mean logit at real (r1), generated (r2) or both pictures. Raises ValueError for
    another penalty.
    """

    def __init__(self, objective: Objective, penalty: str = "none", gamma: float = 0.0) -> None:
        self.objective, self.at, self.gamma = objective, patch_gradient_at(penalty), gamma

    def generator_loss(self, discriminator: nn.Module, real: Tensor, made: Tensor) -> Tensor:
        """Return the generator's loss [N]."""
        logits = discriminator(made)
        with torch.no_grad():
            truth = discriminator(real) if self.objective.sees_real else logits
        return self.objective.generator(truth.detach(), logits).flatten(1).mean(1)

    def discriminator_loss(self, discriminator: nn.Module, real: Tensor, made: Tensor) -> tuple[Tensor, Terms]:
        """Return the discriminator's loss [N], including its penalty."""
        real, made = requires_input_grad(real, "real" in self.at), requires_input_grad(made, "fake" in self.at)
        if len(self.at) == 1:  # the input gradient at one half must not depend on the other
            real_logits, made_logits = discriminator(real), discriminator(made)
        else:
            real_logits, made_logits = discriminator(torch.cat([real, made])).chunk(2)
        loss = self.objective.discriminator(real_logits, made_logits).flatten(1).mean(1)
        terms = {"d_loss": loss.detach().mean(), "logit_gap": real_logits.detach().mean() - made_logits.detach().mean()}
        if self.at:
            evaluated = {"real": (real, real_logits.mean((1, 2))), "fake": (made, made_logits.mean((1, 2)))}
            input_gradient = torch.stack(list(squared_gradient_norms({at: evaluated[at] for at in self.at}).values())).sum(0)
            loss, terms["gradient_penalty"] = loss + 0.5 * self.gamma * input_gradient, input_gradient.detach().mean()
        return loss, terms
