"""How well photographs are restored: the presets of restoration against bicubic interpolation and classical methods.

    python benchmarks/restore.py --recipes super-resolution denoise dejpeg --minutes 20 --threads 2

Data: benchmarks/photographs.py: 119 photographs to train on, 50 held out, both halved. Each preset is trained for --minutes (or
--images) and applied to the whole held-out photographs, degraded with fixed seeds; classical methods are tuned on the middle of eight
training photographs (the wavelet denoiser takes part where PyWavelets is installed). A row a method: Y-PSNR (BT.601 luma) and SSIM of it, for super-resolution without a border as wide as the
scale; `perceptual`, the distance on layers of an encoder that Limner trains on 64x64 crops of the training photographs and no
recipe sees; `clean`, the PSNR of clean photographs after the network; and for networks the milliseconds of a megapixel of
output on one core. Holes are compared on the middle 256x256, since biharmonic filling solves for all pixels of a hole at once.

Rows are merged into results/restore.json, so that it can be run in parts; sheets (degraded, classical, ours, clean) lie beside
it. --ensemble is that of `limner restore`; --set NAME=VALUE changes options of the recipes and --name the row, for trials.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import exposure, restoration
from torch import Tensor

import limner
from limner.core import device
from limner.core.images import grid, to_float, to_uint8, write_png
from limner.data.batches import generator_at
from limner.data.degrade import Degradation, degradation, parse_degradations
from limner.evaluation.features.own import own_features
from limner.evaluation.image_quality import layer_distance, psnr, ssim
from limner.evaluation.inputs import ImageSet
from limner.families.train import train
from limner.networks.restoration import ENSEMBLES, composed, ensembled, network_input
from photographs import DEFAULT, photographs

RESULTS = Path(__file__).parent / "results"
RUNS = Path("build/restore")
SEED = 20_000  # of degradations, apart from those of training
TUNED, TUNED_SIDE = 8, 160  # training photographs that classical methods are tuned on, and the side of their middle
SHOWN, WINDOW = 6, 192  # photographs on a sheet, and the side of what it shows of each
HOLES = 256  # side of the middle of a photograph whose holes are filled
Restore = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""(degraded uint8 [H,W,C], mask uint8 [H,W] or None) -> uint8 [H',W',3]"""

# preset -> (degradation that is measured, the part of a photograph)
MEASURED: Mapping[str, Callable[[], Degradation]] = {
    "super-resolution": lambda: degradation("downscale", factor=4),
    "super-resolution-gan": lambda: degradation("downscale", factor=4),
    "super-resolution-real": lambda: degradation("real", factor=4),
    "denoise": lambda: degradation("noise", sigma=25.0),
    "deblur": lambda: degradation("blur", sigma=2.0, kinds=("isotropic",), sinc=0.0),
    "dejpeg": lambda: degradation("jpeg", quality=10),
    "low-light": lambda: degradation("low-light"),
    "inpaint": lambda: degradation("holes", fraction=0.25),
    "colorize": lambda: degradation("gray"),
    "restore": lambda: parse_degradations("jpeg,noise,blur"),
}


# ---- classical methods -----------------------------------------------------------------------------------------------


def in_levels(x: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def enlarged(scale: int) -> Restore:
    return lambda x, _: np.asarray(Image.fromarray(x).resize((x.shape[1] * scale, x.shape[0] * scale), Image.Resampling.BICUBIC))


def bilateral(x: np.ndarray, color: float) -> np.ndarray:
    return in_levels(restoration.denoise_bilateral(x / 255, sigma_color=color, sigma_spatial=2.0, channel_axis=-1))


def nl_means(x: np.ndarray, h: float) -> np.ndarray:
    sigma = 25 / 255
    return in_levels(restoration.denoise_nl_means(
        x / 255, patch_size=5, patch_distance=7, h=h * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    ))  # fmt: skip


def total_variation(x: np.ndarray, weight: float) -> np.ndarray:
    return in_levels(restoration.denoise_tv_chambolle(x / 255, weight=weight, channel_axis=-1))


def wavelet(x: np.ndarray, sigma: float) -> np.ndarray:
    return in_levels(restoration.denoise_wavelet(
        x / 255, sigma=sigma * 25 / 255, method="BayesShrink", convert2ycbcr=True, rescale_sigma=True, channel_axis=-1
    ))  # fmt: skip


DENOISERS: Mapping[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...]]] = {
    "nl_means": (nl_means, (0.3, 0.4, 0.5, 0.6)),
    "tv_chambolle": (total_variation, (0.04, 0.06, 0.08, 0.11)),
    "bilateral": (bilateral, (0.15, 0.25, 0.35)),
} | ({"wavelet": (wavelet, (0.6, 0.8, 1.0))} if find_spec("pywt") else {})


def tuned(method: Callable[[np.ndarray, float], np.ndarray], grid_: tuple[float, ...], pairs: list[dict[str, Any]]) -> Restore:
    """The method with the parameter of the best mean PSNR on `pairs`."""
    best = max(grid_, key=lambda value: np.mean([of_pair(method(pair["image"], value), pair)["psnr"] for pair in pairs]))
    return lambda x, _: method(x, best)


def oracle_gamma(pair: dict[str, Any], most: float = 1.0) -> np.ndarray:
    """The power of the picture, 0.1 to `most`, that is nearest to the truth: no method could know it."""
    x, y = pair["image"] / 255, pair["target"] / 255
    powers = np.linspace(0.1, most, round(36 * most) + 1)
    errors = [np.square(x**power - y).mean() for power in powers]
    return in_levels(x ** powers[int(np.argmin(errors))])


def autocontrast(x: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return np.asarray(ImageOps.autocontrast(Image.fromarray(x), cutoff=0.5))


def clahe(x: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return in_levels(exposure.equalize_adapthist(x))


def biharmonic(x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return in_levels(restoration.inpaint_biharmonic(x / 255, mask != 0, channel_axis=-1, split_into_regions=True))


# ---- measuring -------------------------------------------------------------------------------------------------------


def pairs_of(folder: Path, task: Degradation, most: int, side: int | None = None) -> list[dict[str, Any]]:
    """Degraded and clean photographs: {"image", "target" uint8 [H,W,C], "mask" or None}, whole or their middle."""
    found = []
    paths = sorted(folder.glob("*.png"))
    paths = [path for path in paths if side is None or min(Image.open(path).size) >= side]
    for i, path in enumerate(paths[:: max(1, len(paths) // most)][:most]):
        image = Image.open(path).convert("RGB")
        width, height = (side, side) if side else (part // task.scale * task.scale for part in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        target = np.array(image.crop((left, top, left + width, top + height)))
        rng, mask = generator_at(SEED, i, "benchmark"), None
        if getattr(task, "masks", False):
            made, mask = task.with_mask(target, rng)  # type: ignore[attr-defined]
        else:
            made = task(target, rng)
        found.append({"image": made, "target": target, "mask": mask, "border": task.scale if task.scale > 1 else 0})
    return found


def luma(x: np.ndarray, border: int) -> Tensor:
    y = x[border : x.shape[0] - border, border : x.shape[1] - border]
    return torch.from_numpy(np.array(Image.fromarray(y).convert("L")))[None, None]


def of_pair(made: np.ndarray, pair: dict[str, Any]) -> dict[str, float]:
    a, b = luma(made, pair["border"]), luma(pair["target"], pair["border"])
    return {"psnr": min(100.0, psnr(a, b).item()), "ssim": ssim(a, b).item()}


def perceptual_of(folder: Path) -> Callable[[np.ndarray, np.ndarray], float]:
    """The distance of two photographs on an encoder trained on 64x64 crops of the training photographs."""
    crops = []
    for path in sorted(folder.glob("*.png")):
        picture = np.array(Image.open(path).convert("RGB"))
        for top in range(0, picture.shape[0] - 63, 64):
            crops += [picture[top : top + 64, left : left + 64] for left in range(0, picture.shape[1] - 63, 64)]
    chosen = crops[:: max(1, len(crops) // 2048)]
    features = own_features(ImageSet(torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2), name="crops of photographs"))

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        cut = [
            torch.stack([
                torch.from_numpy(x[top : top + 64, left : left + 64].copy()).permute(2, 0, 1)
                for top in range(0, x.shape[0] - 63, 64) for left in range(0, x.shape[1] - 63, 64)
            ]) for x in (a, b)
        ]  # fmt: skip
        return layer_distance(*cut, features.layers).mean().item()

    return distance


def network_of(model: Any, ensemble: int) -> Restore:
    """The trained network on a whole photograph, in the machine's precision, as a self-ensemble."""
    net, where = model.network.fused(), torch.device("cpu")

    @torch.no_grad()
    def restore(x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        image = to_float(torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None])
        hole = None if mask is None else torch.from_numpy(mask)[None, None]
        with device.autocast(where, device.precision(where)):
            made = ensembled(net, network_input(net, image.contiguous(memory_format=torch.channels_last), hole), ensemble)
        made = made if hole is None else composed(image, made, hole)
        return to_uint8(made)[0].permute(1, 2, 0).numpy()

    return restore


@torch.no_grad()
def milliseconds(model: Any, precision: torch.dtype, ensemble: int) -> float:
    """Milliseconds of processor time of a megapixel of output on one core: the best of three pictures of 1000x1000 output."""
    net, threads = model.network.fused(), torch.get_num_threads()
    torch.set_num_threads(1)
    side = 1000 // net.scale
    x = torch.rand(1, net.inputs, side, side).contiguous(memory_format=torch.channels_last)
    found = []
    for _ in range(4):
        start = time.thread_time()
        with device.autocast(x.device, precision):
            ensembled(net, x, ensemble)
        found.append(time.thread_time() - start)
    torch.set_num_threads(threads)
    return min(found[1:]) * 1e9 / (side * net.scale) ** 2


def clean_psnr(restore: Restore, folder: Path, most: int) -> float:
    """Mean PSNR, over all channels, of clean photographs after the network."""
    found = []
    for path in sorted(folder.glob("*.png"))[:most]:
        x = np.array(Image.open(path).convert("RGB"))
        a, b = (torch.from_numpy(np.ascontiguousarray(y)).permute(2, 0, 1)[None] for y in (restore(x, None), x))
        found.append(min(100.0, psnr(a, b).item()))
    return float(np.mean(found))


def rivals(recipe: str, tuning: list[dict[str, Any]]) -> dict[str, Callable[[dict[str, Any]], np.ndarray]]:
    """The classical methods that a preset is compared with: pair -> restored."""

    def plain(restore: Restore) -> Callable[[dict[str, Any]], np.ndarray]:
        return lambda pair: restore(pair["image"], pair["mask"])

    if recipe.startswith("super-resolution"):
        return {"bicubic": plain(enlarged(4))}
    nothing: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
        "degraded": lambda pair: np.broadcast_to(pair["image"], pair["target"].shape).copy()
    }
    if recipe == "denoise":
        return nothing | {name: plain(tuned(method, values, tuning)) for name, (method, values) in DENOISERS.items()}
    if recipe == "low-light":
        return nothing | {"autocontrast": plain(autocontrast), "clahe": plain(clahe), "oracle gamma": oracle_gamma}
    return nothing | ({"biharmonic": plain(biharmonic)} if recipe == "inpaint" else {})


def measure(recipe: str, model: Any, folders: tuple[Path, Path], most: int, sheet: Path, ensemble: int) -> dict[str, dict[str, float]]:
    """{method: figures} of a trained preset and its rivals; writes the sheet."""
    task = MEASURED[recipe]()
    side = HOLES if recipe == "inpaint" else None
    pairs = pairs_of(folders[1], task, most, side)
    tuning = pairs_of(folders[0], task, TUNED, TUNED_SIDE) if recipe == "denoise" else []
    restore = network_of(model, ensemble)
    methods = {**rivals(recipe, tuning), "limner": lambda pair: restore(pair["image"], pair["mask"])}
    if recipe == "low-light":  # a fair comparison with the oracle, which knows the exposure
        methods["limner, oracle gamma"] = lambda pair: oracle_gamma(pair | {"image": restore(pair["image"], pair["mask"])}, 3.0)
    distance = perceptual_of(folders[0]) if recipe.startswith("super-resolution") else None
    rows, outputs = {}, {}
    for name, method in methods.items():
        made = [method(pair) for pair in pairs]
        figures = [of_pair(x, pair) for x, pair in zip(made, pairs, strict=True)]
        rows[name] = {key: round(float(np.mean([f[key] for f in figures])), 4) for key in figures[0]}
        if distance:
            distances = [distance(x, pair["target"]) for x, pair in zip(made, pairs, strict=True)]
            rows[name]["perceptual"] = round(float(np.mean(distances)), 5)
        if recipe == "colorize":
            rows[name]["psnr_rgb"] = round(float(np.mean([rgb_psnr(x, pair["target"]) for x, pair in zip(made, pairs, strict=True)])), 3)
        outputs[name] = made
        print(f"  {name:14} {rows[name]}", flush=True)
    ours = rows["limner"]
    for precision in (torch.float32, torch.bfloat16):
        ours[f"ms_per_mpx_{device.name_of(precision)}"] = round(milliseconds(model, precision, ensemble), 1)
    if task.scale == 1 and recipe not in ("inpaint", "colorize", "low-light"):
        ours["clean"] = round(clean_psnr(restore, folders[1], most), 2)
    best = max((name for name in rows if not name.startswith("limner")), key=lambda name: rows[name]["psnr"])
    write_sheet(sheet, pairs, outputs[best], outputs["limner"])
    return rows


def rgb_psnr(a: np.ndarray, b: np.ndarray) -> float:
    x, y = (torch.from_numpy(np.ascontiguousarray(z)).permute(2, 0, 1)[None] for z in (a, b))
    return min(100.0, psnr(x, y).item())


def write_sheet(path: Path, pairs: list[dict[str, Any]], classical: list[np.ndarray], ours: list[np.ndarray]) -> None:
    """Rows: degraded (pixels repeated), the best classical method, ours, clean; of the middle of evenly spaced photographs."""
    rows: list[list[np.ndarray]] = [[], [], [], []]
    for i in np.linspace(0, len(pairs) - 1, SHOWN).round().astype(int).tolist():
        pair = pairs[i]
        target = pair["target"]
        scale = target.shape[0] // pair["image"].shape[0]
        degraded = np.broadcast_to(pair["image"], (*pair["image"].shape[:2], 3)).repeat(scale, 0).repeat(scale, 1)
        top, left = ((side - WINDOW) // 2 for side in target.shape[:2])
        for row, x in zip(rows, (degraded, classical[i], ours[i], target), strict=True):
            row.append(x[top : top + WINDOW, left : left + WINDOW])
    cells = np.stack([x for row in rows for x in row]).transpose(0, 3, 1, 2)
    write_png(path, grid(cells, columns=SHOWN, scale=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(MEASURED), choices=list(MEASURED))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--images", type=int, help="instead of minutes")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--most", type=int, default=50, help="held-out photographs")
    parser.add_argument("--photographs", type=Path, default=DEFAULT)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--trained", type=Path, help="a run folder to measure instead of training; for one recipe")
    parser.add_argument("--ensemble", type=int, default=1, choices=ENSEMBLES, help="of `limner restore`")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--name", help="of the row and the run, instead of the recipe's")
    arguments = parser.parse_args()
    folders = photographs(arguments.photographs)
    changes = {key: json.loads(value) for key, value in (item.split("=", 1) for item in arguments.set)}
    budget = {"images": arguments.images} if arguments.images else {"minutes": arguments.minutes}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "restore.json"
    for recipe in arguments.recipes:
        name = arguments.name or recipe
        folder = arguments.trained or train(
            folders[0], recipe=recipe, out=arguments.runs / name, threads=arguments.threads, changes=dict(changes), **budget
        ).folder
        model = limner.load(folder / "best" if (folder / "best").exists() else folder, "cpu")
        training = model.description["training"]
        print(f"{name}: {training['images']:,} crops, {training['seconds']:.0f} s", flush=True)
        rows = measure(recipe, model, folders, arguments.most, RESULTS / f"restore_{name}.png", arguments.ensemble)
        entry = {"training": {key: training[key] for key in ("images", "seconds", "machine")}, "changes": changes, "ensemble": arguments.ensemble, "photographs": arguments.most, "rows": rows}
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(found | {name: entry}, indent=1) + "\n")


if __name__ == "__main__":
    main()
