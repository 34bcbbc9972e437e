"""The networks of text to image: attention to words, frozen vectors of words, the inference form, memory, and damaged descriptions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from limner.core.condition import Condition
from limner.core.device import autocast, on_meta
from limner.core.images import ImageSpec
from limner.core.wordllama import WORD_SIZE
from limner.networks import contracts, rebuild_text_generator, text2image
from limner.networks.attention import WordAttention
from limner.networks.inference import inference_form
from limner.training import memory

CPU = torch.device("cpu")
TOKENS, VECTORS = Condition.tokens(300, 4 * 6), Condition.vector(4 * WORD_SIZE)
TEXTS = pytest.mark.parametrize("condition", [TOKENS, VECTORS], ids=["tokens", "vector"])
PATCHES = {"patch": 2, "upsampling": "nearest"}


def config(**changes: object) -> text2image.GeneratorConfig:
    return dataclasses.replace(text2image.TINY_GENERATOR, word_tokens=6, **changes)


def generator(condition: Condition, size: int = 32, **changes: object) -> text2image.Generator:
    torch.manual_seed(0)
    return text2image.Generator(ImageSpec(3, size, size, condition), config(**changes))


def opened(network: text2image.Generator, gain: float = 0.7) -> text2image.Generator:
    """The generator with attention that counts, as after training, and with statistics of norms."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, WordAttention):
                module.gain.fill_(gain)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.Embedding):
                module.weight.add_(torch.randn_like(module.weight) * 0.2)
    return network.eval()


def texts(condition: Condition, n: int = 6) -> Tensor:
    """Texts of one to four words."""
    c = condition.examples(n)
    assert c is not None
    rows = c.unflatten(1, (4, -1)) * (torch.arange(4) < torch.arange(n)[:, None] % 4 + 1)[..., None]
    return rows.flatten(1)


# ---- attention to words ------------------------------------------------------------------------------------------------


def test_attention_is_that_of_an_independent_implementation() -> None:
    torch.manual_seed(0)
    layer, x, words = WordAttention(16, 8), torch.randn(3, 16, 4, 5), torch.randn(3, 6, 8)
    there = (torch.arange(6) < torch.tensor([[6], [2], [1]])).float()
    layer.gain.data.fill_(0.5)
    query, key, value = (
        part.unflatten(-1, (4, 4)).transpose(1, 2)
        for part in (layer.query(x).flatten(2).transpose(1, 2), layer.key(words), layer.value(words))
    )
    context = F.scaled_dot_product_attention(query, key, value, there[:, None, None].bool())  # [N,h,HW,C/h]
    wanted = x + 0.5 * layer.out(context.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (4, 5)))
    torch.testing.assert_close(layer(x, words, there), wanted, rtol=1e-4, atol=1e-5)


def test_a_weight_counts_words_and_padding_counts_nothing() -> None:
    torch.manual_seed(0)
    layer, x, words = WordAttention(6, 8), torch.randn(2, 6, 3, 3), torch.randn(2, 3, 8)  # 6 channels: one head
    layer.gain.data.fill_(1.0)
    twice = torch.cat([words, words[:, :1], torch.randn(2, 2, 8)], 1)
    weights = torch.tensor([[1.0, 1, 1, 1, 0, 0]]).expand(2, -1)
    torch.testing.assert_close(layer(x, twice, weights), layer(x, words, torch.tensor([[2.0, 1, 1]]).expand(2, -1)))
    assert layer(x, words, torch.zeros(2, 3)).isfinite().all(), "a text without words"


@TEXTS
def test_training_with_attention_begins_as_without(condition: Condition) -> None:
    plain, attending = generator(condition), generator(condition, attention=True)
    z, c = torch.randn(6, plain.z_size), texts(condition)
    assert torch.equal(plain(z, c), attending(z, c))
    attending(z, c).square().sum().backward()
    gains = [m.gain for m in attending.modules() if isinstance(m, WordAttention)]
    assert len(gains) == 2 and all(gain.grad is not None and gain.grad != 0 for gain in gains)
    moved = opened(attending).train()
    moved.zero_grad()
    moved(z, c).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moved.pictures.attention.parameters())


@pytest.mark.parametrize(
    ("size", "changes", "levels"),
    [(64, {}, {"1", "2"}), (64, PATCHES, {"1", "2"}), (16, {}, {"1"}), (16, PATCHES, {"1"}), (8, {}, {"0"})],
)
def test_the_second_and_third_maps_attend(size: int, changes: dict[str, object], levels: set[str]) -> None:
    network = opened(generator(TOKENS, size, attention=True, **changes))
    assert set(network.pictures.attention) == levels
    z, c = torch.randn(1, network.z_size).expand(6, -1), texts(TOKENS)
    made = network(z, c)
    assert made.shape == (6, 3, size, size)
    one = network.features(c)[:1]  # the same sentence, other words
    other = torch.cat([one[:, : network.sentence_size], network.features(c)[3:4, network.sentence_size :]], 1)
    assert not torch.allclose(network.pictures(z[:1], one), network.pictures(z[:1], other))


@TEXTS
def test_padding_does_not_count(condition: Condition) -> None:
    network = opened(generator(condition, attention=True))
    longer = dataclasses.replace(condition, **{"length": 36} if condition == TOKENS else {"size": 6 * WORD_SIZE})
    wide = generator(longer, attention=True)
    wide.load_state_dict(network.state_dict())
    z, c = torch.randn(6, network.z_size), texts(condition)
    made = wide.eval()(z, F.pad(c, (0, c.shape[1] // 2)))
    torch.testing.assert_close(made, network(z, c))


# ---- contracts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"attention": True}, {"attention": True, **PATCHES}], ids=["plain", "attention", "patches"])
@TEXTS
def test_contracts_of_both_networks(condition: Condition, changes: dict[str, object]) -> None:
    network = generator(condition, **changes)
    spec = network.spec
    discriminator = text2image.Discriminator(spec, text2image.TINY_DISCRIMINATOR, 6)
    assert isinstance(network, contracts.Generator) and isinstance(network, contracts.BatchNormalized)
    assert isinstance(discriminator, contracts.Discriminator)
    z, c = torch.randn(4, network.z_size), condition.examples(4)
    with autocast(CPU, torch.bfloat16):
        x = network(z, c)
        logits = discriminator(x, c)
    assert x.shape == (4, 3, 32, 32) and x.dtype == torch.float32 and x.abs().max() <= 1
    assert logits.shape == (4,) and logits.dtype == torch.float32
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    again = rebuild_text_generator(spec, {"architecture": "text2image", "config": dataclasses.asdict(config(**changes))})
    again.to_empty(device="cpu").load_state_dict(load_tensors(save_tensors(network.state_dict())))
    assert torch.equal(again.eval()(z, c), network.eval()(z, c))


@pytest.mark.parametrize("changes", [{}, PATCHES], ids=["plain", "patches"])
@TEXTS
def test_the_inference_form_computes_the_same(condition: Condition, changes: dict[str, object]) -> None:
    network = opened(generator(condition, attention=True, **changes))
    z, c = torch.randn(6, network.z_size), texts(condition)
    with torch.inference_mode():
        exact, features = network(z, c), network.features(c)
        assert exact.std() > 0.01
        assert (inference_form(network, torch.float32)(z, c) - exact).abs().max() < 1e-5
        assert (inference_form(network.pictures, torch.float32)(z, features) - exact).abs().max() < 1e-5
        with autocast(CPU, torch.bfloat16):
            rounded = network(z, c)
            folded = [inference_form(network, torch.bfloat16)(z, c), inference_form(network.pictures, torch.bfloat16)(z, features)]
    rms = lambda error: error.square().mean().sqrt().item()  # noqa: E731
    assert all(rms(made - exact) < 1.5 * rms(rounded - exact) + 1e-3 for made in folded)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in inference_form(network.pictures, torch.float32).modules())


@TEXTS
def test_the_estimate_of_memory_counts_attention(condition: Condition) -> None:
    def kept(**changes: object) -> int:
        with on_meta():
            network = generator(condition, **changes)
            z, c = torch.empty(memory.ROWS, network.z_size), condition.examples(memory.ROWS)
        return memory.of_activations(network, (z, c))

    assert 0 < kept() < kept(attention=True)


def test_texts_of_no_whole_number_of_words_are_refused() -> None:
    for condition in (Condition.tokens(300, 25), Condition.vector(WORD_SIZE + 1), Condition.classes(3)):
        with pytest.raises(ValueError, match=r"numbers a word, not .*\."):
            generator(condition)
    described = {"architecture": "text2image", "config": dataclasses.asdict(config())}
    with pytest.raises(ValueError, match="without texts"):
        rebuild_text_generator(ImageSpec(3, 16, 16, Condition.classes(3)), described)
