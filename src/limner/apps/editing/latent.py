"""One picture as a generator's latent: a value that is saved, loaded, moved and rendered.

    z [Z]         standard normal numbers, which `core.latents` transforms to the model's latent distribution
    styles [L,W]  one style for each layer of a style-based network (w+), in place of z
    label         the class, for a model with classes
    blend [K]     weights of the classes in place of the label alone, for a picture between classes
    delta         a tuned copy of the generator: the file of what to add to its weights (`apps.editing.delta`)

A `.latent.npz` holds them with the fingerprint of the generator and the shape of its pictures. Latents of other weights are
refused: they would show another picture.
"""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from limner.apps.editing.delta import load_delta
from limner.core import artifact, latents
from limner.core.device import autocast
from limner.core.files import open_regular, write_whole
from limner.core.options import DEEPEST, WIDEST
from limner.networks.contracts import StyleBased
from limner.networks.inference import inference_form
from limner.sampling.generate import generate

ENDING = ".latent.npz"
FORMAT = 1
CHUNK = 64                      # pictures per forward pass
MAX_BYTES = 1 << 26             # of a file, and of each array in it
MAX_STYLES = 4 * DEEPEST        # layers of a style-based network
MEMBERS = ("format", "fingerprint", "size", "label", "blend", "z", "styles", "delta", "delta_sha256")


@dataclass(frozen=True, eq=False, kw_only=True)
class Latent:
    """One picture of a trained generator. Raises ValueError for arrays that no generator has.

    fingerprint: of the generator's weights (`fingerprint`). size: (C,H,W) of its pictures. z: float32 [Z], or styles: float32
    [L,W], one of the two. delta, delta_sha256: path and hash of a tuned copy, or None and "".
    """

    fingerprint: str
    size: tuple[int, int, int]
    z: np.ndarray | None = None
    styles: np.ndarray | None = None
    label: int | None = None
    blend: np.ndarray | None = None
    delta: Path | None = None
    delta_sha256: str = ""

    def __post_init__(self) -> None:
        if (self.z is None) == (self.styles is None):
            raise ValueError("A latent has either z or styles.")
        code, dimensions = self.code, 1 if self.styles is None else 2
        if code.dtype != np.float32 or code.ndim != dimensions or not code.size or max(code.shape) > WIDEST:
            raise ValueError(f"A latent is float32 [Z], or [L,W] for styles, not {code.dtype} {list(code.shape)}.")
        if not np.isfinite(code).all():
            raise ValueError("The numbers of a latent are finite.")
        if self.blend is not None and (self.blend.dtype != np.float32 or self.blend.ndim != 1 or not np.isfinite(self.blend).all()):
            raise ValueError("The blend of a latent is a finite float32 weight for each class.")

    @property
    def code(self) -> np.ndarray:
        """The numbers that an edit changes: z [Z] or styles [L,W]."""
        code = self.z if self.styles is None else self.styles
        assert code is not None
        return code

    def with_code(self, code: np.ndarray) -> Latent:
        """Return this latent with other numbers of the same shape: z [Z] or styles [L,W]."""
        assert code.shape == self.code.shape, (code.shape, self.code.shape)
        code = np.asarray(code, np.float32)
        return replace(self, z=code) if self.styles is None else replace(self, styles=code)

    def save(self, path: str | Path) -> Path:
        """Write a `.latent.npz`; a tuned copy's delta is copied beside it where it is not there already. Returns the path.

        Raises ValueError for another suffix, and when the file cannot be written.
        """
        path = checked_name(Path(path))
        content: dict[str, Any] = {
            "format": np.int64(FORMAT), "fingerprint": np.array(self.fingerprint), "size": np.array(self.size, np.int64),
            "label": np.int64(-1 if self.label is None else self.label),
            "z" if self.styles is None else "styles": self.code,
        }  # fmt: skip
        if self.blend is not None:
            content["blend"] = self.blend
        if self.delta is not None:
            beside = path.parent / self.delta.name
            if beside.resolve() != self.delta.resolve():
                beside = path.parent / f"{path.name.removesuffix(ENDING)}.delta.safetensors"
                write_whole(beside, self.delta.read_bytes())
            content |= {"delta": np.array(beside.name), "delta_sha256": np.array(self.delta_sha256)}
        buffer = io.BytesIO()
        np.savez(buffer, **content)
        write_whole(path, buffer.getvalue())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Latent:
        """Read a `.latent.npz`. No code of the file is run, and sizes are checked before arrays are allocated.

        Raises FileNotFoundError, and ValueError for a file that `save` did not write. The delta is read when it is rendered.
        """
        path = Path(path)
        content = _arrays(path)
        damaged = ValueError(f"{path} is no latent that Limner wrote, or it is damaged: make it again with `limner invert`.")
        try:
            version = int(content["format"])
            delta = str(content["delta"]) if "delta" in content else ""
            if delta and (PurePath(delta).name != delta or "\\" in delta or ":" in delta):
                raise damaged  # a name beside the file, never a path
            label, size = int(content["label"]), tuple(int(side) for side in content["size"])
            made = cls(
                fingerprint=str(content["fingerprint"]), size=size,  # type: ignore[arg-type]
                z=content.get("z"), styles=content.get("styles"), label=None if label < 0 else label, blend=content.get("blend"),
                delta=path.parent / delta if delta else None, delta_sha256=str(content.get("delta_sha256", "")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise damaged from error
        if version > FORMAT:
            raise ValueError(f"{path} was written by a newer Limner: update with `pip install -U limner`.")
        if len(size) != 3 or len(made.fingerprint) != 64:
            raise damaged
        return made


def checked_name(path: Path) -> Path:
    """Return `path`. Raises ValueError unless it ends in .latent.npz."""
    if not path.name.endswith(ENDING) or path.name == ENDING:
        raise ValueError(f"A latent is written to a file that ends in {ENDING}, not to {path.name!r}.")
    return path


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of an .npz by name, each at most MAX_BYTES. Raises FileNotFoundError and ValueError."""
    damaged = f"{path} is no latent that Limner wrote, or it is damaged: make it again with `limner invert`."
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len(members) > len(MEMBERS) or any(member.file_size > MAX_BYTES for member in members):
                    raise ValueError(damaged)
                names = {f"{name}.npy": name for name in MEMBERS}
                return {names[member.filename]: _array(archive.read(member)) for member in members}
        except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise ValueError(damaged) from error


def _array(content: bytes) -> np.ndarray:
    """Return the array of a .npy file. Raises ValueError when its header promises more than the file holds, or objects."""
    buffer = io.BytesIO(content)
    version = np.lib.format.read_magic(buffer)
    if version != (1, 0):
        raise ValueError(f"version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(buffer)
    if dtype.kind not in "fiU" or len(shape) > 2 or any(side < 0 for side in shape):
        raise ValueError(f"{dtype} {shape}")
    count = 1
    for side in shape:
        count *= side
    if count * dtype.itemsize != len(content) - buffer.tell():
        raise ValueError("size")
    return np.load(io.BytesIO(content), allow_pickle=False)


# ---- with a model ----------------------------------------------------------------------------------------------------


def fingerprint(model: Any) -> str:
    """Return the SHA-256 of the generator's weights in hex, the one that its weights.safetensors states."""
    name = model.description["network"]["name"]
    return artifact.content_hash({f"{name}.{key}": value for key, value in model.network.state_dict().items()})


def latent_of(model: Any, code: np.ndarray, label: int | None = None) -> Latent:
    """Return the latent of the model for z [Z] or styles [L,W]."""
    code = np.asarray(code, np.float32)
    z, styles = (code, None) if code.ndim == 1 else (None, code)
    size = (model.spec.channels, *model.spec.size)
    return Latent(fingerprint=fingerprint(model), size=size, z=z, styles=styles, label=label)


def check(model: Any, given: Sequence[Latent]) -> None:
    """Raise ValueError when a latent is not one of this model."""
    own, network = fingerprint(model), model.network
    for latent in given:
        if latent.fingerprint != own:
            raise ValueError(
                f"The latent was made with another generator than the one in {model.folder} (weights {latent.fingerprint[:8]}, "
                f"not {own[:8]}): give its own run, or invert the picture again with this one."
            )
        fits = latent.label is None if not model.spec.classes else latent.label is not None and latent.label < model.spec.classes
        if latent.blend is not None:
            fits = fits and latent.blend.shape == (model.spec.classes,)
        if latent.styles is not None:
            fits = fits and isinstance(network, StyleBased) and latent.styles.shape[0] == network.layers
        elif latent.code.shape != (network.z_size,):
            fits = False
        if not fits or latent.size != (model.spec.channels, *model.spec.size):
            raise ValueError(f"The latent does not fit the generator in {model.folder}: it is damaged, so invert the picture again.")


def condition(model: Any, given: Sequence[Latent]) -> Tensor | None:
    """Return the classes of latents on the CPU, int64 [N], or float [N,K] if one of them is a blend; None without classes."""
    if not model.spec.classes:
        return None
    labels = torch.tensor([latent.label for latent in given])
    if all(latent.blend is None for latent in given):
        return labels
    rows = torch.nn.functional.one_hot(labels, model.spec.classes).float()
    for row, latent in zip(rows, given, strict=True):
        if latent.blend is not None:
            row.copy_(torch.from_numpy(latent.blend))
    return rows


def synthesize(model: Any, code: Tensor, c: Tensor | None, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return the pictures [N,C,H,W] in or near [-1,1] of codes z [N,Z] or styles [N,L,W], differentiable in both arguments.

    c: classes [N], which styles contain already. weights: parameters in place of the network's own, by name (a tuned copy).
    """
    if code.ndim == 3:
        call: Any = _Synthesis(model.network)
        if weights:
            return functional_call(call, {f"network.{name}": value for name, value in weights.items()}, (code,))
        return call(code)
    z = latents.transform(code, model.noise)
    if weights:
        return functional_call(model.network, dict(weights), (z, c))
    return model.network(z, c)


def renderer(model: Any, weights: Mapping[str, Tensor] | None = None, own_layers: bool = False) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return the network that `sampling.generate` draws codes with: `synthesize`, where nothing is differentiated.

    Latents z go through the form of the network that `GeneratorModel.sample` uses, to give the same pictures; own_layers: through the
    layers of the architecture, for hooks.
    """

    @cache
    def sampled() -> torch.nn.Module:
        if not weights:
            made: torch.nn.Module = model.inference
            return made
        with torch.inference_mode(False):  # parameters that are made in inference mode cannot be used outside of it
            tuned = copy.deepcopy(model.network).requires_grad_(False)
            for name, value in weights.items():
                tuned.get_parameter(name).data = value
            return inference_form(tuned, model._precision)

    def network(code: Tensor, c: Tensor | None) -> Tensor:
        if own_layers or code.ndim == 3:
            return synthesize(model, code, c, weights)
        made: Tensor = sampled()(latents.transform(code, model.noise), c)
        return made

    return network


class _Synthesis(torch.nn.Module):
    """The synthesis of a style-based network as a module, as `functional_call` takes it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, styles: Tensor) -> Tensor:
        made: Tensor = self.network.synthesis(styles)
        return made


@torch.no_grad()
def mapped(model: Any, z: np.ndarray, c: np.ndarray | Tensor | None) -> np.ndarray:
    """Return the styles w float32 [N,W] of latents z [N,Z] and classes [N] of a style-based network, as samples have them."""
    latent = latents.transform(torch.from_numpy(z), model.noise).to(model._device)
    with autocast(model._device, model._precision):
        w: Tensor = model.network.mapping(latent, None if c is None else torch.as_tensor(c).to(model._device))
    return np.asarray(w.float().cpu().numpy())


def styles_of(model: Any, given: Sequence[Latent]) -> np.ndarray:
    """Return the styles [N,L,W] of latents of a style-based network. Raises ValueError for another network."""
    network = model.network
    if not isinstance(network, StyleBased):
        raise ValueError(f"The generator in {model.folder} has no styles: this needs a style-based one, such as stylegan2.")
    check(model, given)
    c, rows = condition(model, given), []
    for i, latent in enumerate(given):
        if latent.styles is not None:
            rows.append(latent.styles)
        else:
            w = mapped(model, latent.code[None], None if c is None else c[i : i + 1])  # [1,W]
            rows.append(np.repeat(w, network.layers, 0))
    return np.stack(rows)


def render(model: Any, given: Sequence[Latent], weights: Mapping[str, Tensor] | None = None) -> np.ndarray:
    """Return the pictures of latents, uint8 [N,C,H,W], in the model's own precision; a tuned copy's by its own weights.

    weights: by name, in place of the weights of the generator and of tuned copies. Raises ValueError for latents of another generator, and for a delta that is missing or damaged.
    """
    check(model, given)
    made = np.zeros((len(given), model.spec.channels, *model.spec.size), np.uint8)
    groups: dict[tuple[str, int], list[int]] = {}
    for i, latent in enumerate(given):
        groups.setdefault((latent.delta_sha256, latent.code.ndim), []).append(i)
    for rows in groups.values():
        group = [given[i] for i in rows]
        chosen = tuned_weights(model, group[0]) if weights is None else weights
        code = torch.from_numpy(np.stack([latent.code for latent in group]))
        made[rows] = generate(renderer(model, chosen), code, condition(model, group), model._device, model._precision, CHUNK).numpy()
    return made


def tuned_weights(model: Any, latent: Latent) -> dict[str, Tensor] | None:
    """Return the weights of a latent's tuned copy by name, or None where it has none. Raises ValueError as `load_delta`."""
    if latent.delta is None:
        return None
    delta = load_delta(latent.delta, model.network, latent.fingerprint, latent.delta_sha256, model._device)
    own = dict(model.network.named_parameters())
    return {name: own[name].detach() + change for name, change in delta.items()}
