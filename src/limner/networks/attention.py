"""Attention of the positions of a map: to each other, or to the words of a text.

Self-attention is that of Zhang et al. 2019, "Self-attention generative adversarial networks", section 3. Keys and values
are taken from the map at half size, as in the authors' code, which the paper does not mention: a quarter of the cost.

Attention to words is that of Xu et al. 2018, "AttnGAN: Fine-grained text to image generation with attentional generative
adversarial networks", eq. 2: the context of a position is the mean of the projected words, weighted by their similarity
to its features. Here queries are projected too, similarities are scaled and there are several heads (Vaswani et al.
2017, "Attention is all you need", section 3.2), and the context is added by a gain that begins at zero, where theirs is
concatenated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.networks.layers import SpectralConv2d, levels

NOTHING = 1e-20  # weight of a padded word: its share is 0 in float32, and a text without words has finite shares


class SelfAttention(nn.Module):
    """x + gain * out(softmax(q k) v), with the gain zero at first (eq. 3). [N,C,H,W] -> the same"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.query = SpectralConv2d(channels, narrow, 1, bias=False)
        self.key = SpectralConv2d(channels, narrow, 1, bias=False)
        self.value = SpectralConv2d(channels, half, 1, bias=False)
        self.out = SpectralConv2d(half, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # [N,HW,c]
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # [N,c,HW/4]
        value = F.max_pool2d(self.value(x), 2).flatten(2)  # [N,C/2,HW/4]
        weights = torch.softmax((query @ key).float(), 2).to(value.dtype)
        mixed = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])  # [N,C/2,H,W]
        return x + (self.gain * self.out(mixed)).to(x.dtype)


class WordAttention(nn.Module):
    """x + gain * out(softmax(q k) v), keys and values of words, with the gain zero at first.

    x [N,C,H,W], words [N,M,S], weights [N,M] -> [N,C,H,W]. A word of weight w counts as w words that are alike: 1 is a
    word, 0 is padding. HEADS divides C, or there is one head.
    """

    HEADS = 4

    def __init__(self, channels: int, word_size: int) -> None:
        super().__init__()
        self.heads = self.HEADS if channels % self.HEADS == 0 else 1
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Linear(word_size, channels, bias=False)
        self.value = nn.Linear(word_size, channels, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, words: Tensor, weights: Tensor) -> Tensor:
        heads = (self.heads, -1)
        query = self.query(x).flatten(2).unflatten(1, heads).transpose(2, 3)  # [N,h,HW,C/h]
        key = self.key(words).transpose(1, 2).unflatten(1, heads)  # [N,h,C/h,M]
        value = self.value(words).transpose(1, 2).unflatten(1, heads)  # [N,h,C/h,M]
        similar = (query @ key).float() * key.shape[2] ** -0.5 + weights.float().clamp_min(NOTHING).log()[:, None, None]
        shares = torch.softmax(similar, 3).to(value.dtype)  # [N,h,HW,M]
        context = (value @ shares.transpose(2, 3)).flatten(1, 2).unflatten(2, x.shape[2:])  # [N,C,H,W]
        return x + (self.gain * self.out(context)).to(x.dtype)


def attended(spec: ImageSpec) -> int:
    """The number of downsamplings before the self-attention: one, or more where the map would have over 32x32 positions
    (section 4.2: middle to high resolutions work best). Each position attends to a quarter of all."""
    halvings = 1
    while (spec.height >> halvings) * (spec.width >> halvings) > 32 * 32 and halvings < levels(spec):
        halvings += 1
    return halvings
