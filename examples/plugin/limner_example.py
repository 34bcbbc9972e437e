"""What a package can add to Limner: an architecture `cppn`, an objective `pearson`, and a family that colors gray pictures.

    pip install examples/plugin
    limner train fashion --architecture cppn --objective pearson --minutes 3
    limner train emoji --recipe colorizer --channels 3 --minutes 3 --out runs/colors
    limner colorize runs/colors gray.png colored.png
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner import (
    Batch,
    Card,
    Clock,
    Experiment,
    Family,
    ImageSpec,
    Method,
    Objective,
    OptimizerConfig,
    Phase,
    Preset,
    Product,
    Training,
    group,
    option,
)
from limner.core.device import autocast, precision
from limner.core.images import to_float, to_pil, to_uint8
from limner.core.machine import Machine
from limner.core.options import WIDEST
from limner.data import Dataset
from limner.data.decode import Progress
from limner.data.request import DataRequest
from limner.data.split import split
from limner.methods.phase import Terms
from limner.networks import describe, rebuild
from limner.networks.condition import ConditionEmbedding, Projection, encode
from limner.recipes.sources import load_single_set
from limner.runs.options import Options
from limner.runs.validate import FIDELITY, PAIRS, choose_metric, fidelity

# ---- architecture ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(64, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(64, "Units of each hidden layer.", low=1, high=WIDEST)
    depth: int = option(4, "Hidden layers.", low=1, high=64)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels of the first convolution; doubled by the second and by the third.", low=1, high=WIDEST)


class Generator(nn.Module):
    """An image as a function of position, a compositional pattern-producing network (Stanley 2007): every pixel's color
    from its coordinates and the latent, by layers with sines (Sitzmann et al. 2020). (z [N,Z], c | None) -> [N,C,H,W]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        self.position = nn.Linear(2, config.width)
        self.phases = nn.Linear(config.z_size + spec.condition.size, config.depth * config.width)
        layers = [nn.Linear(config.width, config.width) for _ in range(config.depth)]
        self.layers = nn.ModuleList(layers)
        self.color = nn.Linear(config.width, spec.channels)
        nn.init.normal_(self.position.weight, 0, 6.0)  # radians from the center of the image to its border
        for layer in layers:
            nn.init.normal_(layer.weight, 0, (2 / config.width) ** 0.5)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if self.spec.condition:
            z = torch.cat([z, encode(self.spec.condition, c).to(z.dtype)], 1)
        rows, columns = (torch.linspace(-1, 1, side, device=z.device) for side in self.spec.size)
        x = torch.sin(self.position(torch.cartesian_prod(rows, columns)))  # [HW,width]
        for layer, phase in zip(self.layers, self.phases(z).chunk(len(self.layers), 1), strict=True):
            x = torch.sin(layer(x) + phase[:, None])  # [N,HW,width]
        return torch.tanh(self.color(x).float()).mT.unflatten(2, self.spec.size)


class Discriminator(nn.Module):
    """Three strided convolutions and a linear layer; conditions by projection. (x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        channels = (spec.channels, config.width, 2 * config.width, 4 * config.width)
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Conv2d(channels[i], channels[i + 1], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(channels[-1], 1)
        self.project = Projection(ConditionEmbedding(spec.condition, channels[-1])) if spec.condition else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        features = self.layers(x).mean((2, 3))  # [N,F]
        logits = self.last(features).float().squeeze(1)
        return logits if self.project is None else logits + self.project(features, c)


# ---- objective -------------------------------------------------------------------------------------------------------

PEARSON = Objective(
    discriminator=lambda real, fake: 0.5 * (real - 1).square() + 0.5 * (fake + 1).square(),
    generator=lambda real, fake: 0.5 * fake.square(),
    source="Mao et al. 2017, Least squares GANs, eq. 8: with targets -1, 1 and 0 a Pearson chi-squared divergence",
)

# ---- family ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ColorizerConfig:
    width: int = option(32, "Channels of the hidden layers.", low=1, high=WIDEST)
    depth: int = option(5, "Hidden layers; each sees twice as far as the one before.", low=1, high=8)


@dataclass(frozen=True, kw_only=True)
class ColorizerRecipe(Training):
    """A colorizer, trained on the distance to the true colors."""

    network: ColorizerConfig = group(ColorizerConfig, "The colorizer.")
    optimizer: OptimizerConfig = group(lambda: OptimizerConfig(lr=1e-3, beta1=0.9), "Optimizer of the colorizer.")


def gray(x: Tensor) -> Tensor:
    """The luma of RGB images (ITU-R BT.601). [N,3,H,W] -> [N,1,H,W]"""
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


class Network(nn.Module):
    """RGB images, of which only the luma is used -> RGB images of that luma. x [N,3,H,W] -> [N,3,H,W], of any size"""

    def __init__(self, config: ColorizerConfig) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, config.width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv2d(config.width, config.width, 3, padding=2**i, dilation=2**i) for i in range(config.depth)
        )
        self.last = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        luma = gray(x)
        h = self.first(luma)
        for layer in self.layers:
            h = h + layer(torch.relu(h))
        color = self.last(torch.relu(h)).float()
        return luma + color - gray(color)


class Colorizing:
    """The method: one player, which minimizes the absolute distance to the true colors."""

    def __init__(self, network: nn.Module, flip: bool) -> None:
        self.network, self.flip = network, flip
        self.method = Method(
            nets={"colorizer": network},
            players={"colorizer": list(network.parameters())},
            phases=[Phase("colorizer", self.turn)],
            averaged=("colorizer",),
        )

    def turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        x = batch["image"]
        if self.flip:
            x = torch.where(batch.uniform("flip").view(-1, 1, 1, 1) < 0.5, x.flip(3), x)
        distance = (self.network(x) - x).abs().mean((1, 2, 3))  # [N]
        return distance, {"l1": distance.detach().mean()}


def load_data(recipe: ColorizerRecipe, request: DataRequest, progress: Progress | None = None) -> Dataset:
    """The pictures, without classes. Raises ValueError where they have no colors."""
    request.refuse(("labels",), "to a colorizer")
    dataset = load_single_set(replace(request, unconditional=True), progress)
    if dataset.spec.channels != 3:
        raise ValueError(f"A colorizer learns from RGB pictures, and these are {dataset.spec}: give others, or --channels 3.")
    return dataset


def build(name: str, recipe: ColorizerRecipe, dataset: Dataset, options: Options, machine: Machine) -> Experiment:
    """The experiment: network, method, optimizer, how it is measured, and what is published."""
    torch.manual_seed(options.seed)
    network = Network(recipe.network).to(machine.device)
    metric = choose_metric(options.metric, FIDELITY, "colorizer")
    training, held_out = split(dataset, options.seed) if metric else (dataset, None)
    shown = training if held_out is None else held_out
    pictures = shown.images[:PAIRS]

    @torch.no_grad()
    def preview(network: nn.Module) -> np.ndarray:
        """Rows of eight: gray, colored, true."""
        x = to_float(pictures[:8]).to(machine.device)
        with autocast(machine.device, machine.precision):
            colored = network(x)
        return to_uint8(torch.cat([gray(x).expand_as(x), colored, x])).cpu().numpy()

    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=Colorizing(network, recipe.flip).method,
        optimizers={"colorizer": recipe.optimizer},
        product=Product(
            kind="colorizer",
            network="colorizer",
            description=describe("dilated", recipe.network),
            preview=preview,
            card=Card("image-to-image, colorization", "    limner colorize THIS_FOLDER GRAY.png COLORED.png\n"),
        ),
        validators=[fidelity(lambda net, x: net(x), pictures, pictures, metric, "colored pictures", machine)] if metric else [],
        held_out_count=0 if held_out is None else len(held_out),
    )


class Colorizer:
    """A trained colorizer, what `limner.load` returns."""

    def __init__(
        self, network: nn.Module, spec: ImageSpec, description: Mapping[str, Any], device: torch.device, folder: Path
    ) -> None:
        self.network, self.spec, self.description, self.device, self.folder = network, spec, description, device, folder

    @torch.no_grad()
    def colorize(self, image: Image.Image) -> Image.Image:
        """The picture in colors, at its own size; whatever colors it has are not used."""
        array = np.array(image.convert("RGB")).transpose(2, 0, 1)
        with autocast(self.device, precision(self.device)):
            colored = self.network(to_float(torch.from_numpy(array)[None].to(self.device)))
        return to_pil(to_uint8(colored)[0])


COLORIZER = Family(
    kind="colorizer",
    recipes=(ColorizerRecipe,),
    presets={"colorizer": Preset(ColorizerRecipe, "dilated convolutions that learn the colors of gray pictures", "this example")},
    load_data=load_data,
    build=build,
    rebuild=lambda spec, description: rebuild(description, ColorizerConfig, Network),
    model=Colorizer,
    usage="limner colorize {run} GRAY.png COLORED.png",
)


def colorize(run: Path, picture: Path, out: Path, /, *, device: str = "auto") -> None:
    """Color a gray picture with a trained colorizer.

    Parameters
    ----------
    run
        The folder that `limner train --recipe colorizer` wrote.
    picture
        A gray picture; of one with colors, only the brightness is used.
    out
        The file to write.
    device
        auto, cpu, cuda or mps.
    """
    from limner.families.load import load_kind

    model = load_kind(run, device, Colorizer, "colorize")
    try:
        with Image.open(picture) as image:
            model.colorize(image).save(out)
    except (OSError, ValueError) as error:
        raise ValueError(f"{picture} could not be colored into {out}: {error}.") from error
    print(f"The colored picture is in {out}.")
