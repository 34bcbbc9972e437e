"""The variational bound against its closed form, codebooks, and runs that resume exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import limner
from limner.core.images import ImageSpec
from limner.families import family_of
from limner.families.train import preset
from limner.losses.adversarial import objective
from limner.losses.fidelity import LEVEL
from limner.methods.phase import Batch, Clock
from limner.methods.vae import VAE, VAEGAN
from limner.methods.vqvae import VQVAE
from limner.networks import patch, vae, vqvae
from limner.networks.mixture import Mixture
from limner.networks.vqvae import Codebook, straight_through

CLOCK = Clock(0, 100, 4)


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


SPEC = ImageSpec(1, 16, 16)


def batch_of(x: torch.Tensor, seen: int = 0) -> Batch:
    return Batch({"image": x}, 0, len(x), (0, seen, 0))


class Linear(nn.Module):
    """x = W z + b + s noise with orthogonal columns of W: the posterior is known, and is diagonal."""

    def __init__(self, s: float = 0.3) -> None:
        super().__init__()
        w, _ = torch.linalg.qr(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
        self.w, self.s = nn.Parameter(w * torch.tensor([0.9, 0.4])), s
        self.b = nn.Parameter(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        self.encoder, self.decoder, self.prior = self.posterior, self, Mixture(1, 2)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        variance = 1 / (1 + self.w.square().sum(0) / self.s**2)
        return (x.flatten(1) - self.b) @ self.w / self.s**2 * variance, variance.log().expand(len(x), 2)

    def distribution(self, z: torch.Tensor) -> torch.Tensor:
        mean = (z @ self.w.T + self.b).view(-1, 1, 2, 2)
        return torch.cat([mean, torch.full_like(mean, math.log(self.s))], 1)

    def mean(self, parameters: torch.Tensor) -> torch.Tensor:
        return parameters[:, :1]


def test_bound_is_the_evidence_when_the_posterior_is_exact() -> None:
    net = Linear()
    x = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(1)) * 0.5
    loss, terms = VAE(net, "gaussian").turn(batch_of(x.repeat(40_000, 1, 1, 1)), CLOCK)
    covariance = net.w @ net.w.T + net.s**2 * torch.eye(4)
    density = torch.distributions.MultivariateNormal(net.b, covariance).log_prob(x.flatten(1))
    evidence = -(density + 4 * math.log(LEVEL)).item()
    assert loss.mean().item() * 4 == pytest.approx(evidence, abs=0.02)
    assert terms["bits_per_dim"].item() == pytest.approx(evidence / 4 / math.log(2), abs=0.01)


def test_beta_rises_with_images_seen() -> None:
    torch.manual_seed(0)
    method = VAE(vae.Autoencoder(SPEC, vae.TINY), "gaussian", beta=2.0, warm_up=0.5)
    x = torch.rand(4, 1, 16, 16) * 2 - 1
    batch = batch_of(x)
    none, half, whole, after = (method.turn(batch, Clock(s, 100, 4))[0] for s in (0, 25, 50, 99))
    torch.testing.assert_close(half - none, (whole - none) / 2)
    assert torch.equal(whole, after) and (whole > none).all()


def test_the_prior_learns_where_latents_lie_and_moves_alone() -> None:
    torch.manual_seed(0)
    net = vae.Autoencoder(SPEC, vae.TINY)
    with torch.no_grad():
        net.encoder.last.bias.copy_(torch.cat([torch.full((8,), 3.0), torch.full((8,), -4.0)]))  # far from N(0, I)
    method = VAE(net, "gaussian")
    optimizer = torch.optim.Adam(method.method.players["prior"], 0.05)
    saved = []
    for i in range(400):
        batch = batch_of(torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1, i)
        with torch.no_grad():
            method.turn(batch, CLOCK)
        loss, terms = method.prior_turn(batch, CLOCK)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        saved.append(terms["prior_saves"].item())
    assert loss.shape == (16,) and saved[0] < saved[-1] and saved[-1] > 0.2
    assert all(p.grad is None for p in method.method.players["autoencoder"])
    assert not {*map(id, method.method.players["prior"])} & {*map(id, method.method.players["autoencoder"])}
    drawn, there = net.prior.draw(torch.randn(500, 8), torch.rand(500)), net.encode(batch["image"])
    assert (drawn.mean(0) - there.mean(0)).abs().max() < 1  # from 3


def test_active_latents_are_counted_over_the_batch_whatever_the_slices() -> None:
    counts = []
    for parts in (1, 4, 8):
        torch.manual_seed(0)
        method = VAE(vae.Autoencoder(SPEC, vae.TINY), "gaussian")
        batch = batch_of(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1)
        slices = [batch.rows(slice(i * 8 // parts, (i + 1) * 8 // parts)) for i in range(parts)]
        for part in slices:
            method.turn(part, CLOCK)
        counts.append({method.prior_turn(part, CLOCK)[1]["active"].item() for part in slices})
    assert counts[0] == counts[1] == counts[2] and counts[0] != {0}, counts


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    x, q = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y = straight_through(x, q)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    torch.testing.assert_close(y, q)
    assert x.grad is not None and x.grad.tolist() == [1, 2, 3] and q.grad is None


def test_codebook_gives_the_nearest_and_follows_the_mean() -> None:
    book = Codebook(3, 2)
    book.vectors.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]]))
    x = torch.tensor([[0.9, 0.2], [0.1, 4.0]]).T.view(1, 2, 1, 2)
    near, codes = book(x)
    assert codes.tolist() == [[[1, 2]]] and near[0, :, 0, 1].tolist() == [0.0, 5.0]
    book.counts.fill_(1.0), book.sums.copy_(book.vectors)
    book.follow(torch.tensor([0.0, 2.0, 0.0]), torch.tensor([[0.0, 0.0], [4.0, 2.0], [0.0, 0.0]]), 0.9)
    torch.testing.assert_close(book.counts, torch.tensor([0.9, 1.1, 0.9]))
    torch.testing.assert_close(book.vectors[1], torch.tensor([1.3, 0.2]) / 1.1)
    torch.testing.assert_close(book.vectors[2], torch.tensor([0.0, 5.0]))  # not chosen: stays


def test_codes_that_nothing_chose_stay_where_they_are() -> None:
    book = vqvae.Codebook(3, 2)
    before = book.vectors.clone()
    chosen, total = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([[3.0, 6.0], [0.0, 0.0], [0.0, 0.0]])
    book.follow(chosen, total, 0.99)
    torch.testing.assert_close(book.vectors, torch.cat([torch.tensor([[1.0, 2.0]]), before[1:]]))
    for _ in range(2000):  # long enough for its count to be lost among roundings
        book.follow(torch.zeros(3), torch.zeros(3, 2), 0.99)
    torch.testing.assert_close(book.vectors[0], torch.tensor([1.0, 2.0]))


def test_dead_codes_start_anew_where_vectors_lie() -> None:
    torch.manual_seed(0)
    net = vqvae.Autoencoder(SPEC, vqvae.TINY).train()
    method = VQVAE(net)
    net.codebook.vectors.fill_(1e3)
    x = torch.rand(8, 1, 16, 16) * 2 - 1
    used = []
    for i in range(30):
        loss, terms = method.turn(batch_of(x, i), CLOCK)
        used.append(terms["perplexity"].item())
    assert used[0] < 1.01 and used[-1] > 4
    assert net.codebook.vectors.abs().max() < 100


def test_a_restarted_code_that_is_not_chosen_restarts_again_soon() -> None:
    torch.manual_seed(0)
    net = vqvae.Autoencoder(SPEC, vqvae.TINY)
    method = VQVAE(net, decay=0.9, dead=0.1)
    black = -torch.ones(8, 1, 16, 16)
    far = torch.full_like(net.codebook.vectors, 1e3)
    method.turn(batch_of(black), CLOCK)
    with torch.no_grad():  # beyond what any picture chooses: dead after ln(2) / -ln(0.9) = 6.6 iterations
        net.codebook.vectors[1:], net.codebook.sums[1:] = far[1:], far[1:] * net.codebook.counts[1:, None]
    for i in range(1, 10):
        assert (net.codebook.vectors[1:] > 999).all() == (i <= 7), i
        method.turn(batch_of(black, i), CLOCK)


@pytest.mark.parametrize("background", [-1.0, 1.0])
def test_sparse_pictures_are_not_painted_over(background: float) -> None:
    """A pixel in twenty is ink: the first steps go towards the background, and the decoder must find back."""
    torch.manual_seed(0)
    net = vqvae.Autoencoder(SPEC, vqvae.TINY).train()
    method = VQVAE(net)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for i in range(200):
        x = torch.full((16, 1, 16, 16), background)
        rows = torch.randint(16, (16,), generator=torch.Generator().manual_seed(i))
        x[torch.arange(16), 0, rows] = -background
        loss, terms = method.turn(batch_of(x, i), CLOCK)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    blank = 2 * 16**-0.5  # the error of a picture without ink
    assert terms["error"] < 0.5 * blank, terms
    assert terms["perplexity"] > 1.5


def test_a_sliced_batch_moves_the_codebook_about_as_the_whole() -> None:
    books = []
    for parts in (1, 4):
        torch.manual_seed(0)
        net = vqvae.Autoencoder(SPEC, vqvae.TINY)
        net.codebook.counts.fill_(50.0), net.codebook.sums.copy_(net.codebook.vectors * 50)
        method = VQVAE(net)
        batch = batch_of(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1)
        for i in range(parts):
            method.turn(batch.rows(slice(i * 8 // parts, (i + 1) * 8 // parts)), CLOCK)
        books.append(net.codebook.vectors.clone())
    assert (books[0] - books[1]).norm() < 0.05 * books[0].norm()


def test_a_pixel_beyond_its_range_can_come_back() -> None:
    decoder = vae.Autoencoder(ImageSpec(1, 16, 16), vae.TINY).decoder
    parameters = torch.tensor([-3.0, -0.5, 0.5, 3.0]).view(1, 1, 2, 2).repeat(1, 2, 1, 1).requires_grad_(True)
    for stop_requested, passes in ((0.0, [True, True, True, True]), (9.0, [True, True, True, False])):
        picture = decoder.mean(parameters)
        assert picture.flatten().tolist() == [-1.0, -0.5, 0.5, 1.0]
        (g,) = torch.autograd.grad((picture - stop_requested).square().sum(), parameters)
        assert (g[:, :1].flatten() != 0).tolist() == passes


def test_vaegan_turns_reach_the_nets_they_should() -> None:
    torch.manual_seed(0)
    discriminator = patch.Discriminator(SPEC, patch.Config(width=8, norm="spectral"))
    method = VAEGAN(vae.Autoencoder(SPEC, vae.TINY), discriminator, "gaussian", objective("hinge"))
    batch = batch_of(torch.rand(4, 1, 16, 16) * 2 - 1)
    loss, _ = method.turn(batch, CLOCK)
    assert loss.shape == (4,)
    loss.sum().backward()
    assert all(p.grad is not None for p in method.method.players["autoencoder"])
    for p in method.method.players["autoencoder"]:
        p.grad = None
    discriminator.zero_grad()
    loss, _ = method.discriminator_turn(batch, CLOCK)
    loss.sum().backward()
    assert all(p.grad is None for p in method.method.players["autoencoder"]) and loss.shape == (4,)
    assert all(p.grad is not None for p in method.method.players["discriminator"])


SMALL = {
    "vae": {"network": vae.TINY, "batch": 8},
    "vaegan": {"network": vae.TINY, "batch": 8, "discriminator": patch.Config(width=8, norm="spectral")},
    "vqvae": {"network": vqvae.TINY, "batch": 8},
}


class Stop(Exception):
    pass


class StopAt:
    """A hook that dies in the middle of a run, as a machine does."""

    def __init__(self, seen: int) -> None:
        self.seen = seen

    def due(self, clock: Clock) -> bool:
        return clock.seen == self.seen

    def __call__(self, view: object) -> None:
        raise Stop


@pytest.mark.parametrize("recipe", list(SMALL))
def test_resumed_equals_unbroken(recipe: str, squares: Path, tmp_path: Path) -> None:
    def train(out: str, *callbacks: StopAt) -> Path:
        return limner.train(squares, recipe=recipe, images=96, out=tmp_path / out, changes=SMALL[recipe],
                            checkpoint_minutes=0, device="cpu", callbacks=callbacks).folder  # fmt: skip

    with pytest.raises(Stop):
        train("broken", StopAt(48))
    whole, again = (load_file(train(name) / "weights.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == again.keys() and all(torch.equal(v, again[k]) for k, v in whole.items())


@pytest.mark.parametrize("recipe", list(SMALL))
def test_reconstructions_improve(recipe: str, squares: Path, tmp_path: Path) -> None:
    x = np.load(squares)["images"][:, None]
    errors = []
    for images in (8, 1600):
        run = limner.train(squares, recipe=recipe, images=images, out=tmp_path / str(images),
                           changes=SMALL[recipe] | {"ema_half_life": 100.0}, device="cpu").folder  # fmt: skip
        model = limner.load(run)
        errors.append(np.square(model.reconstruct(x).astype(float) - x).mean())
    assert errors[1] < 0.5 * errors[0], errors


def test_every_preset_names_its_source_and_family() -> None:
    for name in SMALL:
        made = preset(name)
        assert made.summary and any(c.isdigit() for c in made.source)
        assert name in family_of(made.make()).presets
