"""What a codec gives after a training on a CPU: rate-distortion on held-out photographs and emoji, seconds a megapixel.

    python benchmarks/codec.py --minutes 45                      # trains, then measures
    python benchmarks/codec.py --photographs runs/photos         # a run that is there already
    python benchmarks/codec.py --minutes 45 --parts photographs factorized emoji

photographs: trained on the 119 photographs of photographs.py, measured on the centers (256x256) of the 50 held out, beside JPEG,
WebP and AVIF, whole files with their headers; with --effort also with the refinement of latents at encoding, as a second curve.
factorized: the same without a hyper-network, the baseline. emoji: 300 of the embedded ones are held out, on white; all of them in
one archive are compared with the WebP files of the quality that has the same PSNR. Times are processor times of one thread, the
best of three, on the largest held-out photograph. Prints tables, writes results/codec.json and the curves as results/codec-PART.png.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

import limner
from limner.apps.compress_files import compress
from limner.apps.rate_distortion import CROP, PICTURES, RateDistortion, crops, evaluate_codec, measure, plot
from limner.data import open_source
from limner.data.sampler import permutation
from photographs import photographs
from yardstick import RESULTS

HELD_OUT = 300  # emoji
METRICS = ("psnr", "ms_ssim")


def trained(data: Any, folder: Path, minutes: float, changes: dict[str, Any], seed: int) -> Path:
    """Return a run, trained unless it is there already."""
    if not (folder / "limner.json").exists():
        limner.train(data, recipe="codec", minutes=minutes, out=folder, seed=seed, changes=changes)
    return folder


def best_of(function: Callable[[], Any], times: int = 3) -> float:
    """Return the processor seconds of the fastest of some calls."""
    found = []
    for _ in range(times):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found)


def seconds_per_megapixel(run: Path, picture: Path, effort: int) -> dict[str, float]:
    """Return the seconds that encoding, with an effort too, and decoding of a picture take on one thread, per 10^6 pixels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    codec = limner.load(run)
    with Image.open(picture) as image:
        pixels, area = image.convert("RGB"), image.width * image.height
    content = codec.compress(pixels)
    found = {
        "encode": best_of(lambda: codec.compress(pixels)) * 1e6 / area,
        "decode": best_of(lambda: codec.decompress(content)) * 1e6 / area,
    }
    if effort:
        found[f"encode, effort {effort}"] = best_of(lambda: codec.compress(pixels, effort=effort)) * 1e6 / area
    torch.set_num_threads(threads)
    return found


def on_photographs(run: Path, held_out: Path, effort: int, out: Path, console: Console) -> dict[str, Any]:
    """Measure a run beside the formats of Pillow, with an effort as a second curve."""
    codec = limner.load(run)
    result, _ = evaluate_codec(codec, str(held_out), out=out)
    console.print(result.tables())
    found = {"bd_rate": deltas(result), "curves": [asdict(curve) for curve in result.curves]}
    if effort:
        pictures, notes = crops(codec, str(held_out), PICTURES, CROP, 0)
        refined = measure(codec, pictures, notes, effort, others=False).curves[0]
        refined.name = f"{result.curves[0].name}, effort {effort}"
        both = RateDistortion([refined, *result.curves], result.protocol, result.warnings)
        console.print(both.tables())
        out.with_suffix(".png").write_bytes(plot(both))
        found[f"effort {effort}"] = {"bd_rate": deltas(both), "curve": asdict(refined)}
    largest = max(held_out.glob("*.png"), key=lambda path: Image.open(path).size[0] * Image.open(path).size[1])
    found["seconds_per_megapixel"] = seconds_per_megapixel(run, largest, effort)
    console.print(f"seconds a megapixel on one thread: {found['seconds_per_megapixel']}")
    return found


def deltas(result: RateDistortion) -> dict[str, Any]:
    """Return the BD-rates of the first curve against the others."""
    return {other.name: {m: asdict(d) if (d := result.delta(other, m)) else None for m in METRICS} for other in result.curves[1:]}


def emoji() -> tuple[np.ndarray, np.ndarray]:
    """Return the embedded emoji on white, uint8 [N,64,64,3]: those to train on, and those held out."""
    source = open_source("emoji", labels=False)
    pictures = np.stack([on_white(source.open(i)) for i in range(len(source))])
    order = permutation(len(pictures), 0, 0)
    return pictures[np.sort(order[HELD_OUT:])], pictures[np.sort(order[:HELD_OUT])]


def on_white(image: Image.Image) -> np.ndarray:
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def mean_psnr(pictures: Sequence[np.ndarray], decoded: Sequence[np.ndarray]) -> float:
    """Return the mean PSNR in dB over pictures, at most 100 each."""
    errors = [np.square(a.astype(float) - b).mean() for a, b in zip(pictures, decoded, strict=True)]
    return float(np.mean([min(100.0, 10 * np.log10(255**2 / max(error, 1e-9))) for error in errors]))


def webp(pictures: Sequence[np.ndarray], quality: int) -> tuple[int, float]:
    """Return (bytes of all, mean PSNR)."""
    size, decoded = 0, []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=6)
        size += buffer.tell()
        decoded.append(np.asarray(Image.open(buffer).convert("RGB")))
    return size, mean_psnr(pictures, decoded)


def on_emoji(run: Path, pictures: np.ndarray, effort: int, console: Console) -> list[dict[str, float]]:
    """Return the bytes of an archive of all pictures at several qualities, and those of WebP at the same PSNR, interpolated."""
    codec = limner.load(run)
    sizes = np.array([webp(pictures, quality) for quality in range(0, 101, 4)])
    order = np.argsort(sizes[:, 1])
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "emoji"
        folder.mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{i:03}.png")
        for quality in (0, 25, 50, 75, 100):
            path = Path(place) / f"{quality}.limn"
            compress(codec, folder, path, quality=quality, effort=effort, archive=True)
            decoded = [np.asarray(codec.decompress(codec.compress(Image.fromarray(picture), quality, effort))) for picture in pictures]
            level = mean_psnr(pictures, decoded)
            theirs = float(np.exp(np.interp(level, sizes[order, 1], np.log(sizes[order, 0]))))
            inside = bool(sizes[:, 1].min() <= level <= sizes[:, 1].max())
            rows.append({"quality": quality, "psnr": level, "bytes": path.stat().st_size, "webp_bytes": theirs, "webp_reaches_psnr": inside})
            console.print(f"emoji, quality {quality}: {level:.2f} dB, {rows[-1]['bytes']:,} bytes, WebP {theirs:,.0f}: "
                          f"{rows[-1]['bytes'] / theirs:.2f} of it{'' if inside else ' (WebP does not reach this PSNR)'}")  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["photographs"], choices=["photographs", "factorized", "emoji"])
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--effort", type=int, default=0, help="steps of refinement at encoding")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, default=Path("build/codec"))
    for part in ("photographs", "factorized", "emoji"):
        parser.add_argument(f"--{part}", type=Path, help="a run that is there already")
    args = parser.parse_args()
    console = Console(width=120)
    train, held_out = photographs()
    RESULTS.mkdir(exist_ok=True)
    results: dict[str, Any] = {"minutes": args.minutes, "effort": args.effort}
    for part in args.parts:
        run = getattr(args, part) or args.into / part
        if part == "emoji":
            known, unknown = emoji()
            trained(known, run, args.minutes, {}, args.seed)
            results[part] = on_emoji(run, unknown, args.effort, console)
        else:
            trained(train, run, args.minutes, {"network.factorized": True} if part == "factorized" else {}, args.seed)
            results[part] = on_photographs(run, held_out, args.effort, RESULTS / f"codec-{part}.json", console)
        (RESULTS / "codec.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
