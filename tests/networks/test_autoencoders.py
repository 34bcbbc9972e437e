"""What every autoencoder must keep."""

from __future__ import annotations

import pytest
import torch

from limner import networks
from limner.core.images import ImageSpec
from limner.networks import patch, vae, vqvae
from limner.networks.mixture import Mixture
from limner.networks.padding import crop_to, pad_to

HOMES = {"vae": vae, "vqvae": vqvae}
SPECS = [ImageSpec(1, 28, 28), ImageSpec(3, 32, 32), ImageSpec(4, 20, 36), ImageSpec(1, 17, 41)]
every_home = pytest.mark.parametrize("name", networks.AUTOENCODERS)
every_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


@every_home
@every_spec
def test_shapes_range_rows_and_description(name: str, spec: ImageSpec) -> None:
    torch.manual_seed(0)
    home = HOMES[name]
    net = home.Autoencoder(spec, home.TINY).eval()
    x = torch.rand(3, spec.channels, *spec.size) * 2 - 1
    y = net(x)
    assert y.shape == x.shape and y.dtype == torch.float32 and y.abs().max() <= 1
    torch.testing.assert_close(net(x[1:2]), y[1:2], atol=1e-5, rtol=1e-4)
    latent = net.encode(x)
    assert torch.equal(net.decode(latent), y)
    way = net.between(latent[:1], latent[1:2], torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(way[[0, 2]], y[:2], atol=1e-5, rtol=1e-4)
    again = networks.rebuild_autoencoder(spec, networks.describe(name, home.TINY))
    again.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(again.eval()(x), y)


@pytest.mark.parametrize("likelihood", vae.LIKELIHOODS)
@every_spec
def test_gradient_reaches_every_parameter_of_a_vae(likelihood: str, spec: ImageSpec) -> None:
    from limner.losses import fidelity

    torch.manual_seed(0)
    net = vae.Autoencoder(spec, vae.Config(z_size=8, width=8, likelihood=likelihood, mixtures=2))
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, 0, 0.1)
    x = torch.rand(4, spec.channels, *spec.size) * 2 - 1
    mean, log_variance = net.encoder(x)
    parameters = net.decoder.distribution(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
    nats = fidelity.likelihood(likelihood)(x, parameters)
    assert nats.shape == (4,) and nats.isfinite().all()
    assert net.decoder.mean(parameters).shape == x.shape
    (nats.sum() - net.prior(torch.randn(4, 8)).sum()).backward()
    net.prior.factors.grad = net.prior.factors.grad.tril(-1) + 1  # what lies on and above the diagonal is not used
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


def test_a_mixture_of_classes_is_a_mixture_for_each() -> None:
    torch.manual_seed(0)
    prior, y = Mixture(3, 2, classes=2), torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        for p in prior.parameters():
            p.copy_(torch.randn(p.shape) * 0.7)
    z, noise, chance = torch.randn(4, 2), torch.randn(4, 2), torch.rand(4)
    for label in (0, 1):
        one = Mixture(3, 2)
        state = prior.state_dict()
        one.load_state_dict(state | {name: state[name][label : label + 1] for name in ("weights", "means")})
        torch.testing.assert_close(prior(z, y)[y == label], one(z)[y == label])
        torch.testing.assert_close(prior.draw(noise, chance, y)[y == label], one.draw(noise, chance)[y == label])


def test_the_mixture_is_a_density_and_draws_from_it() -> None:
    torch.manual_seed(0)
    prior = Mixture(3, 2)
    with torch.no_grad():
        for p in prior.parameters():
            p.copy_(torch.randn(p.shape) * 0.7)
    triangles = prior._triangles()
    each = torch.distributions.MultivariateNormal(prior.means[0], precision_matrix=triangles.mT @ triangles)
    truth = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=prior.weights[0]), each)
    z = torch.randn(50, 2) * 2
    torch.testing.assert_close(prior(z), truth.log_prob(z), atol=1e-4, rtol=1e-4)
    drawn, theirs = prior.draw(torch.randn(40_000, 2), torch.rand(40_000)), truth.sample((40_000,))
    torch.testing.assert_close(drawn.mean(0), theirs.mean(0), atol=0.05, rtol=0.05)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(theirs.T), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("wrong", [{"likelihood": "poisson"}, {"components": 0}, {"downsamplings": 99}])
def test_impossible_options_are_sentences(wrong: dict) -> None:
    home = vqvae if "downsamplings" in wrong else vae
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        home.Autoencoder(SPECS[0], home.Config(**wrong))
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        networks.rebuild_autoencoder(SPECS[0], {"architecture": "os", "config": {}})


@pytest.mark.parametrize("norm", patch.NORMS)
@pytest.mark.parametrize("size", [(16, 16), (17, 41), (128, 128)], ids=str)
def test_patch_critic_judges_patches(norm: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    discriminator = patch.Discriminator(ImageSpec(3, *size), patch.Config(width=8, norm=norm))
    x = torch.randn(2, 3, *size)
    maps, logits = discriminator.forward_with_features(x)
    assert logits.shape == (2, *(side >> len(maps) - 1 for side in size)) and logits.dtype == torch.float32
    logits.square().sum().backward()
    # a bias before instance normalization is subtracted again
    assert all(p.grad is not None for p in discriminator.parameters())
    torch.testing.assert_close(discriminator.eval()(x)[:1], discriminator(x[:1]), atol=1e-5, rtol=1e-4)


def test_padding_is_undone() -> None:
    x = torch.randn(1, 3, 5, 7)
    y = pad_to(x, 4)
    assert y.shape == (1, 3, 8, 8) and torch.equal(crop_to(y, (5, 7)), x) and pad_to(y, 4) is y
