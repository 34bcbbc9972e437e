"""Every architecture under every kind of condition, and the layers that embed one, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner import networks
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import vae
from limner.networks.condition import ConditionEmbedding, LinearEmbedding, Projection, encode
from limner.networks.layers import ConditionalBatchNorm2d

KINDS = [Condition.none(), Condition.classes(3), Condition.vector(2), Condition.tokens(9, 4)]
SOME = KINDS[1:]


def build(name: str, condition: Condition) -> tuple[nn.Module, nn.Module, torch.Tensor | None]:
    """Both networks of an architecture at 16x16, and conditions of four images."""
    torch.manual_seed(0)
    spec = ImageSpec(1, 16, 16, condition)
    home = networks.architecture(name)
    return home.Generator(spec, home.TINY_GENERATOR), home.Discriminator(spec, home.TINY_DISCRIMINATOR), condition.examples(4)


def embeddings(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that read the condition and nothing else."""
    layers = (ConditionEmbedding, LinearEmbedding)
    return {f"{path}.{key}": p for path, m in net.named_modules() if isinstance(m, layers) for key, p in m.named_parameters()}


@pytest.mark.parametrize("condition", KINDS, ids=str)
@pytest.mark.parametrize("name", networks.NAMES)
def test_shapes_gradients_and_dependence_on_the_condition(name: str, condition: Condition) -> None:
    generator, discriminator, c = build(name, condition)
    for net in (generator, discriminator):
        for p in net.parameters():  # no layer hides the condition by starting at zero
            p.data += 0.1 * torch.randn_like(p)
    z = torch.randn(4, generator.z_size)
    x = generator(z, c)
    logits = discriminator(x, c)
    assert x.shape == (4, 1, 16, 16) and logits.shape == (4,)
    logits.square().sum().backward()
    if c is None:
        assert not embeddings(generator) and not embeddings(discriminator)
        return
    for net in (generator, discriminator):
        found = embeddings(net)
        assert found or name == "mlp"  # whose first layer reads the condition beside its input
        for key, p in found.items():
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), key
        net.eval()
    other = c.flip(1) + 1 if condition.kind == "vector" else (c + 1) % condition.size
    with torch.no_grad():
        assert ((generator(z, other) - generator(z, c)).abs().amax((1, 2, 3)) > 0).all()
        x = x.detach()
        assert (discriminator(x, other) != discriminator(x, c)).all()
    with pytest.raises(AssertionError, match="conditioned on"):
        generator(z)


@pytest.mark.parametrize("condition", SOME, ids=str)
@pytest.mark.parametrize("name", networks.NAMES)
def test_rows_do_not_see_each_others_conditions(name: str, condition: Condition) -> None:
    generator, discriminator, c = build(name, condition)
    assert c is not None
    z = torch.randn(4, generator.eval().z_size)
    x = generator(z, c)
    torch.testing.assert_close(generator(z[1:], c[1:]), x[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(discriminator.eval()(x[1:], c[1:]), discriminator(x, c)[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("condition", SOME, ids=str)
def test_virtual_normalization_conditions_its_reference_too(condition: Condition) -> None:
    torch.manual_seed(0)
    home = networks.architecture("dcgan")
    generator = home.Generator(ImageSpec(1, 16, 16, condition), home.GeneratorConfig(z_size=8, width=8, norm="virtual", reference_batch=6))
    expected = condition.examples(6)
    assert expected is not None and generator.reference_c.shape == expected.shape and generator.reference_c.dtype == expected.dtype
    c = condition.examples(2)
    assert generator(torch.randn(2, 8), c).shape == (2, 1, 16, 16)


def test_a_text_is_encoded_as_shares_of_its_tokens_and_of_the_padding() -> None:
    texts = Condition.tokens(5, 4)
    c = torch.tensor([[3, 3, 1, 0], [0, 0, 0, 0], [2, 4, 2, 1]])
    want = [[0.25, 1 / 3, 0, 2 / 3, 0], [1, 0, 0, 0, 0], [0, 0.25, 0.5, 0, 0.25]]
    torch.testing.assert_close(encode(texts, c), torch.tensor(want))
    torch.testing.assert_close(encode(Condition.classes(3), torch.tensor([2, 0])), torch.eye(3)[[2, 0]])
    torch.testing.assert_close(encode(Condition.vector(2), torch.tensor([[0.5, -2.0]])), torch.tensor([[0.5, -2.0]]))


@pytest.mark.parametrize("condition", SOME, ids=str)
def test_embeddings_are_linear_in_the_encoding(condition: Condition) -> None:
    torch.manual_seed(0)
    c = condition.examples(5)
    embedding = ConditionEmbedding(condition, 6)
    want = encode(condition, c) @ embedding.table.weight
    torch.testing.assert_close(embedding(c), want)  # the bias starts at zero
    linear = nn.Linear(condition.size, 6, bias=False)
    linear.weight = nn.Parameter(embedding.table.weight.T.contiguous())
    features = torch.randn(5, 6)
    torch.testing.assert_close(Projection(LinearEmbedding(condition, linear, 2.0))(features, c), (2 * want * features).sum(1))
    torch.testing.assert_close(embedding.constant_(3.0)(c), torch.full((5, 6), 3.0))


@pytest.mark.parametrize("condition", KINDS, ids=str)
def test_conditional_normalization_starts_as_plain_normalization(condition: Condition) -> None:
    x = torch.randn(4, 3, 5, 5)
    want = nn.BatchNorm2d(3)(x)
    torch.testing.assert_close(ConditionalBatchNorm2d(3, condition)(x, condition.examples(4)), want)


@pytest.mark.parametrize("wrong", [torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.long), torch.zeros(4)], ids=["3", "int", "flat"])
def test_a_condition_of_another_shape_or_type_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(AssertionError, match="a condition on vectors of 2 numbers"):
        ConditionEmbedding(Condition.vector(2), 4)(wrong)


def test_the_prior_of_an_autoencoder_asks_for_classes() -> None:
    assert vae.Autoencoder(ImageSpec(1, 16, 16, Condition.classes(3)), vae.TINY).prior.classes == 3
    with pytest.raises(ValueError, match=r"^The prior of a variational autoencoder needs classes, [^\n]+\.$"):
        vae.Autoencoder(ImageSpec(1, 16, 16, Condition.vector(3)), vae.TINY)
