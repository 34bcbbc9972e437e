"""`dinov2` and `clip`: pretrained vision transformers, from local weights; nothing is downloaded.

dinov2: the class token after the last layer norm (Oquab et al. 2023). Its Fréchet distance is FD-DINOv2 (Stein et al.
2023), which they define with the large network at 224. clip: the projected image embedding at unit length (Radford et al.
2021). Its MMD with σ 10 is CMMD (Jayasumana et al. 2024), which they define with ViT-L/14 at 336. Pictures are resized to a
square without cropping, where those papers crop the center.

The networks are from the library `transformers`, an optional extra. A folder of another size of the same kind may be given.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from limner.data.cache import cache_folder
from limner.evaluation.features.extractor import digest, resized, with_channels

BATCH = 32


@dataclass(frozen=True)
class Kind:
    """The properties of a pretrained network."""

    repository: str                     # the standard weights, by their name on the Hugging Face hub
    network: str                        # its class in transformers
    types: tuple[str, ...]              # accepted names of the network in config.json: others have other layers
    output: str                         # the output field that holds the features
    width: str                          # the config's field with the number of features
    side: int | None                    # maximum side; None: the config's own
    unit: bool                          # features of length 1
    mean: tuple[float, float, float]    # of its training pictures, in [0,1]
    std: tuple[float, float, float]

    @property
    def standard(self) -> str:
        return self.repository.split("/")[1]


ENCODERS = {
    # DINOv2's config has 518, the size of its last training steps; the papers measure at 224.
    "dinov2": Kind(
        "facebook/dinov2-large", "Dinov2Model", ("dinov2",), "pooler_output", "hidden_size", 224, False,
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
    ),
    "clip": Kind(
        "openai/clip-vit-large-patch14-336", "CLIPVisionModelWithProjection", ("clip", "clip_vision_model"),
        "image_embeds", "projection_dim", None, True,
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711),
    ),
}


class Pretrained:
    """The extractor of a pretrained network: uint8 [N,C,H,W] of any size -> float32 [N,F], computed in fp32."""

    def __init__(self, name: str, net: Any, device: str = "cpu") -> None:
        self.name, self.kind, self.device = name, ENCODERS[name], torch.device(device)
        config = net.config
        height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        most = self.kind.side or max(height, width)
        self.size = min(height, most), min(width, most)
        self.width = int(getattr(config, self.kind.width))
        self.resize = f"bicubic, antialiased, to {self.size[0]}x{self.size[1]}"
        net = net.float().eval().requires_grad_(False)
        # The same tensors with another activation or number of heads are another network.
        shape = config.hidden_act, config.num_attention_heads, config.layer_norm_eps
        self.identity = digest(name, self.size, *shape, _content(net.state_dict()))
        self.net = net.to(self.device)
        self.mean, self.std = (torch.tensor(v, device=self.device)[:, None, None] for v in (self.kind.mean, self.kind.std))

    @classmethod
    def load(cls, name: str, weights: Path | str | None = None, device: str = "cpu") -> Pretrained:
        """Load from `weights` (a folder as save_pretrained writes it, or one that holds it under its standard name), otherwise
        such a folder in $LIMNER_WEIGHTS or in the cache, otherwise the hub's own cache.

        Raises ValueError when the library or the weights are missing or damaged, or belong to another network.
        """
        kind = ENCODERS[name]
        try:
            library: Any = import_module("transformers")
            network = getattr(library, kind.network)
        except Exception as error:  # importing a broken library may raise anything
            raise ValueError(
                f"{name} features need the library transformers: install it with pip install 'limner[features]'."
            ) from error
        folder = find(name, weights)
        source = str(folder or kind.repository)
        try:
            with _offline(library):
                found = network.config_class.get_config_dict(source, local_files_only=True)[0].get("model_type")
                if found not in kind.types:
                    raise ValueError(f"its config.json names it {found!r}")
                net, report = network.from_pretrained(
                    source, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
            if report["missing_keys"]:  # the library would initialize them at random
                raise ValueError("tensors are missing")
            return cls(name, net, device)
        except Exception as error:
            if folder is None:
                raise ValueError(_missing(name, _place(name))) from error
            raise ValueError(
                f"{folder} does not hold a network of {name}, or is damaged ({_first_line(error)}): "
                f"fetch {kind.repository} again and put it there."
            ) from error

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            rows = [getattr(self.net(pixel_values=self._prepared(p)), self.kind.output) for p in images.split(BATCH)]
            found = torch.cat(rows)  # [N,F]
            return (F.normalize(found, dim=1) if self.kind.unit else found).cpu()

    def _prepared(self, images: Tensor) -> Tensor:
        x = resized(with_channels(images, 3), self.size, "bicubic").to(self.device)
        return (x.float() / 255 - self.mean) / self.std


def find(name: str, weights: Path | str | None = None) -> Path | None:
    """Return the folder with the weights; None if only the hub's cache may have them. Raises ValueError if a given one has none."""
    if weights is None:
        place = _place(name)
        return place if _complete(place) else None
    given = Path(weights).expanduser()
    for folder in (given / ENCODERS[name].standard, given):
        if _complete(folder):
            return folder
    raise ValueError(_missing(name, given.parent / ENCODERS[name].standard if given.is_file() else given))


def _place(name: str) -> Path:
    given = os.environ.get("LIMNER_WEIGHTS")
    base = Path(given).expanduser() if given else cache_folder() / "weights"
    return (base.parent if base.is_file() else base) / ENCODERS[name].standard  # LIMNER_WEIGHTS may be Inception's file


def _complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _missing(name: str, place: Path) -> str:
    kind = ENCODERS[name]
    return (
        f"{name} features need the weights of {kind.repository} (config.json and model.safetensors) in the folder {place}: "
        f'fetch them once with python -c "import transformers as t; '
        f"t.{kind.network}.from_pretrained('{kind.repository}').save_pretrained('{place.as_posix()}')\", "
        "or give a folder that holds them as the weights."
    )


@contextmanager
def _offline(library: Any) -> Iterator[None]:
    """Disable network access of the hub's library, its progress bars, and its warnings about CLIP's unused text network."""
    hub, log = import_module("huggingface_hub.constants"), library.utils.logging
    offline, level, bars = hub.HF_HUB_OFFLINE, log.get_verbosity(), log.is_progress_bar_enabled()
    hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _content(state: dict[str, Tensor]) -> str:
    """Return the SHA-256, in hex, of names and values: independent of the files and of unused tensors."""
    found = hashlib.sha256()
    for key in sorted(state):
        found.update(key.encode())
        found.update(state[key].detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".:")
