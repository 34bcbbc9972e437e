"""Text to image: a sentence encoder, and the default networks with the sentence as their condition.

    Generator       text [N,...] ──▶ SentenceEncoder ──▶ sentence [N,S] ──▶ scale and shift of every level
                                                     └─▶ words [N,W,S] ──▶ attention of two levels (an option)
                    z [N,Z] ──▶ levels of the default generator, each scaled and shifted ──▶ picture [N,C,H,W]
    Discriminator   text [N,...] ──▶ SentenceEncoder ──▶ sentence [N,S] ──▶ inner product with the features
                    picture [N,C,H,W] ──▶ features [N,W,h,w] ──▶ logit without the text ──▶ sum of both [N]

A text is the condition of the pictures: hashed tokens, int64 [N,L], or frozen vectors of words, float [N,D] (`core.tokenizer`,
`core.wordllama`).

The shape is that of Tao et al. 2022, "DF-GAN: A simple and effective baseline for text-to-image synthesis", section 3:
one pair of networks at the final resolution, the sentence as an affine modulation at every level, a discriminator that
sees picture and sentence together. The differences: the encoders are trained along, one for each network (theirs is
pretrained on pairs); the discriminator is spectrally normalized in place of their gradient penalty, and its match is a
projection (Miyato & Koyama 2018, "cGANs with projection discriminator", eq. 3) in place of their convolutions, so that
the features of a picture are computed once for its own and another text. Attention to words, which DF-GAN leaves out, is
that of `networks.attention.WordAttention`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.condition import NONE, Condition
from limner.core.images import ImageSpec
from limner.core.options import WIDEST, check, option
from limner.core.tokenizer import Tokenizer
from limner.core.wordllama import WORD_SIZE
from limner.networks import conv
from limner.networks.attention import WordAttention
from limner.networks.condition import checked
from limner.networks.layers import SpectralLinear

SOURCE = "Tao et al. 2022, DF-GAN: A simple and effective baseline for text-to-image synthesis"

ATTENDING = (1, 2)  # levels that attend to words, where there are so many

WIDTH = "Channels at full resolution, or at that of the patches; doubled at each downsampling, at most 8x."


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(conv.GeneratorConfig):
    width: int = option(16, WIDTH, low=1, high=WIDEST)
    token_size: int = option(64, "Dimensions of a token's embedding.", low=1, high=WIDEST)
    sentence_size: int = option(128, "Dimensions of a sentence's embedding.", low=1, high=WIDEST)
    word_tokens: int = option(
        Tokenizer.word_tokens, "Tokens of a word: the word, and its groups of three letters.", low=1, high=64
    )
    attention: bool = option(False, "Let the second and third maps (8x8 and 16x16 of a square picture) attend to the single words of a text.")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(conv.DiscriminatorConfig):
    width: int = option(16, WIDTH, low=1, high=WIDEST)
    token_size: int = option(64, "Dimensions of a token's embedding.", low=1, high=WIDEST)
    sentence_size: int = option(128, "Dimensions of a sentence's embedding.", low=1, high=WIDEST)
    match: float = option(
        1.5, "Norm of the sentence in the inner product with the features: higher weighs the text more.", low=0
    )


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, token_size=8, sentence_size=8)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8, token_size=8, sentence_size=8)


class SentenceEncoder(nn.Module):
    """text [N,...] -> sentence [N,S] of mean 0 and mean square 1

    A word is the sum of its tokens' embeddings over the root of their number, or a linear map of its frozen vector; a
    convolution over three neighboring words (Kim 2014, "Convolutional neural networks for sentence classification") sees
    their order; the words are then summed.
    """

    def __init__(self, condition: Condition, token_size: int, sentence_size: int, word_tokens: int) -> None:
        super().__init__()
        frozen = condition.kind == "vector"
        if condition.size % WORD_SIZE if frozen else condition.kind != "tokens" or condition.length % word_tokens:
            raise ValueError(
                f"A sentence encoder takes texts of {word_tokens} tokens or {WORD_SIZE} numbers a word, not {condition}."
            )
        self.condition, self.word_tokens = condition, word_tokens
        self.table: nn.Module
        if frozen:
            self.table = nn.Linear(WORD_SIZE, token_size, bias=False)
            nn.init.normal_(self.table.weight, 0, WORD_SIZE**-0.5)
        else:
            self.table = nn.Embedding(condition.size, token_size)
        self.words = nn.Conv1d(token_size, sentence_size, 3, padding=1)
        self.mix = nn.Linear(sentence_size, sentence_size)
        self.last = nn.Linear(sentence_size, sentence_size)

    def embed(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """text [N,...] -> embeddings of words [N,W,E], of about equal variance; 1 where there is a word, 0 for padding [N,W]"""
        c = checked(self.condition, c)
        if self.condition.kind == "vector":
            c = c.unflatten(1, (-1, WORD_SIZE))  # [N,W,D]
            return self.table(c), (c != 0).any(2).to(c.dtype)
        c = c.unflatten(1, (-1, self.word_tokens))  # [N,W,K]
        real = (c != 0).to(self.table.weight.dtype)  # type: ignore[arg-type]
        count = real.sum(2)  # tokens of each word, [N,W]
        words = (self.table(c) * real[..., None]).sum(2) / count.clamp_min(1)[..., None].sqrt()
        return words, (count > 0).to(words.dtype)

    def read(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """text [N,...] -> features of each word and its neighbors [N,S,W], 0 for padding; 1 for a word, 0 for padding [N,W]"""
        words, there = self.embed(c)
        return F.leaky_relu(self.words(words.transpose(1, 2)), 0.2) * there[:, None], there

    def summarize(self, words: Tensor, there: Tensor) -> Tensor:
        """Both results of `read` -> sentence [N,S]"""
        x = words.sum(2) / there.sum(1, keepdim=True).clamp_min(1).sqrt()
        x = x + F.leaky_relu(self.mix(x), 0.2)
        return F.layer_norm(self.last(x).float(), (x.shape[1],))

    def forward(self, c: Tensor) -> Tensor:
        return self.summarize(*self.read(c))


class Pictures(conv.Generator):
    """(z [N,Z], features [N,F] of `Generator.features`) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig) -> None:
        super().__init__(replace(spec, condition=Condition.vector(config.sentence_size)), config)
        self.sentence_size, count = config.sentence_size, len(self.norms)
        levels = [level for level in ATTENDING if level < count] or [0]
        channels = {level: self.norms[level].norm.num_features for level in levels if config.attention}  # type: ignore[union-attr]
        self.attention = nn.ModuleDict({str(i): WordAttention(n, config.sentence_size) for i, n in channels.items()})  # type: ignore[arg-type]

    def activate(self, level: int, x: Tensor, c: Tensor | None) -> Tensor:
        if not self.attention or c is None:
            return super().activate(level, x, c)
        sentence, words = c[:, : self.sentence_size], c[:, self.sentence_size :]
        x = super().activate(level, x, sentence)
        if str(level) not in self.attention:
            return x
        words = words.unflatten(1, (-1, self.sentence_size + 1))  # [N,W,S+1]
        attended: Tensor = self.attention[str(level)](x, words[..., :-1], words[..., -1])
        return attended


class Generator(nn.Module):
    """(z [N,Z], text [N,...]) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        check(config)
        self.spec, self.z_size, self.sentence_size = spec, config.z_size, config.sentence_size
        self.encoder = SentenceEncoder(spec.condition, config.token_size, config.sentence_size, config.word_tokens)
        self.pictures = Pictures(spec, config)

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """As `networks.contracts.BatchNormalized` states it."""
        return self.pictures.normalized_layers()

    def features(self, c: Tensor) -> Tensor:
        """What pictures are drawn from of a text [N,...]: its sentence [N,S]; with attention, after it the S features and the
        weight of each word in turn, [N, S + W (S+1)]."""
        words, there = self.encoder.read(c)
        sentence = self.encoder.summarize(words, there)
        if not self.pictures.attention:
            return sentence
        rows = F.layer_norm(words.transpose(1, 2).float(), (self.sentence_size,))  # [N,W,S]
        return torch.cat([sentence, torch.cat([rows, there[..., None].float()], 2).flatten(1)], 1)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        assert c is not None, "a text-to-image generator takes a text"
        return self.pictures(z, self.features(c).to(z.dtype))


class Discriminator(nn.Module):
    """(x [N,C,H,W], text [N,...]) -> logits [N], high where it takes a picture for real and of this text"""

    def __init__(
        self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig(), word_tokens: int = Tokenizer.word_tokens
    ) -> None:
        super().__init__()
        check(config)
        self.pictures = conv.Discriminator(replace(spec, condition=NONE), config)
        self.encoder = SentenceEncoder(spec.condition, config.token_size, config.sentence_size, word_tokens)
        self.project = SpectralLinear(config.sentence_size, self.pictures.features_width, bias=False)
        self.scale = config.match / config.sentence_size**0.5

    @property
    def last(self) -> nn.Module:
        """The layer that takes the features, without the text."""
        return self.pictures.last

    def features(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> feature maps [N,W,h,w], which do not depend on a text"""
        return self.pictures.features(x)

    def match(self, features: Tensor, c: Tensor) -> Tensor:
        """Feature maps [N,W,h,w] and texts [N,...] -> logits [N]"""
        sentence = self.project(self.encoder(c) * self.scale)
        return self.pictures.logits(features) + (sentence.float() * features.float().sum((2, 3))).sum(1)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        assert c is not None, "this discriminator takes a text"
        return self.match(self.features(x), c)
