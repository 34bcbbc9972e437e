"""Tiny models of every kind that is served, and a server of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

import limner
from codec_model import codec
from limner.apps.serve.service import serve_app
from limner.apps.serve.settings import Settings
from limner.apps.web.access import Access
from limner.apps.web.running import Background
from restorers import network, restorer

PICTURE = Image.effect_noise((40, 24), 60)
STYLES = {"generator.width": 8, "generator.mapping": 2, "generator.z_size": 16, "generator.w_size": 16, "discriminator.width": 8}
_models: dict[str, Any] = {}


def models(squares: Path, folder: Path) -> dict[str, Any]:
    """Trained in seconds, once a process; squares: the data of that fixture."""
    if _models:
        return _models
    pictures = np.load(squares)["images"]
    narrow = {"generator.width": 8, "discriminator.width": 8}
    runs = {
        "squares": limner.train(squares, recipe="spectral", images=64, changes=narrow, out=folder / "squares", quiet=True),
        "styled": limner.train(squares, recipe="stylegan2", images=64, changes=STYLES, out=folder / "styled", quiet=True),
        "coder": limner.train(pictures, recipe="vae", images=64, changes={"network.width": 8, "network.z_size": 5}, out=folder / "coder", quiet=True),
        "negative": limner.train(pictures, 255 - pictures, recipe="pix2pix", images=16, out=folder / "negative", quiet=True,
                                 changes={"network.width": 8, "discriminator.width": 8}),
        "sides": limner.train(squares, recipe="classifier", images=64, changes={"network.width": 8}, out=folder / "sides", quiet=True),
    }  # fmt: skip
    _models.update({name: limner.load(run.folder, "cpu") for name, run in runs.items()})
    twice = restorer(3, net=network(3, 2), task="super-resolution")
    fill = restorer(3, net=_filling(), task="inpaint")
    packer = codec()
    packer.description = {**packer.description, "recipe": {"name": "codec"}}
    for name, model in (("twice", twice), ("fill", fill)):
        model.description = {**model.description, "kind": "restorer", "recipe": {"name": name}}
        _models[name] = model
    _models["packer"] = packer
    return _models


def _filling() -> Any:
    import torch

    from limner.core.images import ImageSpec
    from limner.networks import restoration_unet

    torch.manual_seed(0)
    return restoration_unet.Restorer(ImageSpec(3, 32, 32), restoration_unet.TINY, 4)


@contextmanager
def server(models: dict[str, Any], access: Access | None = None, **settings: Any) -> Iterator[tuple[httpx.Client, Any]]:
    """A client of a live server on a free port, and its application."""
    app = serve_app(list(models.items()), access or Access.of("127.0.0.1"), Settings(**settings))
    with Background(app) as running, httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client:
        yield client, app


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """The picture of a file, uint8 [C,H,W]."""
    array = np.asarray(Image.open(io.BytesIO(content)))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def apply(client: httpx.Client, run: str, image: Image.Image, mask: Image.Image | None = None, **fields: Any) -> httpx.Response:
    files = {"image": ("../../x.png", encoded(image), "image/png")}
    if mask is not None:
        files["mask"] = ("mask.png", encoded(mask), "image/png")
    return client.post(f"/v1/runs/{run}/apply", files=files, data={name: str(value) for name, value in fields.items()})
