"""The auxiliary classifier of a discriminator (AC-GAN): a second head that predicts the class of an image.

Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs", section 3 and figure 1: the discriminator is
not conditioned on the class but predicts it, from the features that its real-or-generated logit uses.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

SOURCE = "Odena et al. 2017, Conditional image synthesis with auxiliary classifier GANs"


class Classifier(nn.Module):
    """The input of a discriminator's last layer [N,F] -> class logits [N,K]"""

    def __init__(self, discriminator: nn.Module, classes: int) -> None:
        super().__init__()
        last = cast(nn.Module, discriminator.last)
        self.head = nn.Linear(cast(Tensor, last.weight)[0].numel(), classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features).float()
