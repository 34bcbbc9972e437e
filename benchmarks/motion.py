"""Clips against a known truth: emoji that move, turn and grow along known paths, learned from 20 looping GIFs.

    python benchmarks/motion.py --data EMOJI --out FOLDER --minutes 20

--data: the folder of the 64x64 Twemoji (`npm pack emoji-datasource-twitter@16.0.0`, img/twitter/64). Twenty GIFs are drawn, each
of one emoji on white: a third circle, a third turn once, a third shrink and grow, in loops of 24 frames and 1.2 seconds. One run is
trained with `limner train FOLDER/clips --recipe motion --no-doctor` (--images N in place of --minutes; --run measures one that
exists). Then CLIPS loops of 48 frames are sampled, and each pair of frames a twelfth of the period apart is matched with all pairs of
all 20 clips at 96 phases by the squared error: the nearest one gives the clip and the phase.

    speed       |speed - 1|, where speed is the change of phase over a quarter of the period, in units of the truth's; the mean over
                each clip, and of those the median and the mean over clips. One frame's phase is known to 1/96 of a period.
    once        share of clips whose phase goes around exactly once in the right direction
    content     share of the pairs of a clip whose nearest clip is the clip's most frequent one, mean over clips
    closing     the step from the last frame to the first divided by the median step, root mean squared: mean and largest
    covered     how many of the 20 clips are the most frequent one of some sampled clip
    psnr        of each sampled frame and its nearest true frame in dB, mean

The same figures of the first frame of every GIF, found again and set in motion as `limner animate` does (`animated`), and of the
GIFs themselves, as the reader gives them: the ceiling.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

import limner
from limner.apps.motion import clips
from limner.apps.motion import frames as frames_of
from limner.core.images import grid, write_png
from limner.data.clips import prepare_clips

EMOJI = (
    "1f981", "1f42f", "1f437", "1f438", "1f435", "1f427", "1f989", "1f98a", "1f41f", "1f422",
    "1f697", "1f68c", "1f680", "2708-fe0f", "1f6b2", "1f353", "1f34c", "1f355", "1f3b8", "1f511",
)  # fmt: skip
PATHS = ("circles", "turns", "grows")
SIDE, FRAMES, MILLISECONDS = 64, 24, 50  # of a GIF
PHASES = 96  # of the truth
CLIPS, SAMPLED = 64, 48  # clips that are measured, and frames of each
PAIR_DISTANCE = 12  # a pair is this part of a period apart
WINDOW = 4  # speed is measured over this part of a period


def path_of(number: int) -> tuple[str, int]:
    """Return how an emoji moves and in which direction, by its number."""
    return PATHS[number % 3], 1 if number // 3 % 2 else -1


def drawn(emoji: Image.Image, path: str, direction: int, phase: float) -> Image.Image:
    """Return an RGBA emoji on its path at a phase in [0,1): RGB of SIDExSIDE on white."""
    angle = 2 * math.pi * phase * direction
    scale, turn, x, y = 0.6, 0.0, 0.0, 0.0
    if path == "circles":
        x, y = 12 * math.cos(angle), 12 * math.sin(angle)
    elif path == "turns":
        scale, turn = 0.68, angle
    else:
        scale = 0.65 + 0.3 * math.cos(angle)
    center = emoji.width / 2
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    left, top = -SIDE / 2 - x, -SIDE / 2 - y
    matrix = (cos, sin, cos * left + sin * top + center, -sin, cos, -sin * left + cos * top + center)
    moved = emoji.convert("RGBa").transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC).convert("RGBA")
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    sheet.paste(moved, mask=moved.getchannel("A"))
    return sheet


def opened(folder: Path, name: str) -> Image.Image:
    """Return an emoji with a clear margin, so that no edge of its file is drawn."""
    with Image.open(folder / f"{name}.png") as image:
        sheet = Image.new("RGBA", (image.width + 16, image.height + 16))
        sheet.paste(image.convert("RGBA"), (8, 8))
    return sheet


def write_clips(emoji: Path, out: Path) -> None:
    """Write the 20 GIFs."""
    out.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(EMOJI):
        image = opened(emoji, name)
        frames = [drawn(image, *path_of(i), k / FRAMES).quantize(255) for k in range(FRAMES)]
        frames[0].save(out / f"{i:02d}-{name}.gif", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)


def truth(emoji: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the true frames at PHASES phases of each clip, uint8 [20,P,H,W,3]."""
    made = []
    for i, name in enumerate(EMOJI):
        image = opened(emoji, name)
        frames = [drawn(image, *path_of(i), k / PHASES) for k in range(PHASES)]
        made.append([np.asarray(f if f.size == size[::-1] else f.resize(size[::-1], Image.Resampling.LANCZOS)) for f in frames])
    return np.array(made)


def pairs(frames: np.ndarray) -> np.ndarray:
    """Return each frame with the one a twelfth of the loop later, float32 [T,2*H*W*C]. frames: uint8 [T,H,W,C] of one loop"""
    rows = frames.reshape(len(frames), -1).astype(np.float32)
    return np.concatenate([rows, np.roll(rows, -(len(frames) // PAIR_DISTANCE), 0)], 1)


def nearest(loop: np.ndarray, true: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the squared error of each pair of a loop and each true pair, float32 [T,K*P]. true: [K*P,D], squares: [K*P]"""
    own = pairs(loop)
    return (own**2).sum(1)[:, None] + squares - 2 * own @ true.T


def measured(loops: list[np.ndarray], true: np.ndarray) -> dict[str, float]:
    """Return the figures of loops, each uint8 [T,H,W,C] of one period, against true frames uint8 [K,P,H,W,C]."""
    count, phases = true.shape[:2]
    flat = np.concatenate([pairs(clip) for clip in true])
    squares = (flat**2).sum(1)
    speeds, once, content, closing, found, errors = [], [], [], [], [], []
    for loop in loops:
        error = nearest(loop, flat, squares)  # [T,K*P]
        clip_at = error.argmin(1) // phases
        clip = int(np.bincount(clip_at, minlength=count).argmax())
        found.append(clip)
        content.append(float((clip_at == clip).mean()))
        phase = error[:, clip * phases : (clip + 1) * phases].argmin(1) / phases  # [T]
        step = len(loop) // WINDOW
        gone = (np.roll(phase, -step) - phase + 0.5) % 1 - 0.5
        speeds.append(float(np.abs(gone * WINDOW - 1).mean()))
        small = (np.roll(phase, -1) - phase + 0.5) % 1 - 0.5
        once.append(round(float(small.sum())) == 1)
        steps = np.sqrt(((np.roll(loop, -1, 0).astype(np.float32) - loop) ** 2).mean((1, 2, 3)))
        closing.append(float(steps[-1] / np.median(steps)))
        errors.append(float(error.min(1).mean() / flat.shape[1]))
    return {
        "speed, median": float(np.median(speeds)), "speed, mean": float(np.mean(speeds)), "once": float(np.mean(once)),
        "content": float(np.mean(content)), "closing, mean": float(np.mean(closing)), "closing, largest": max(closing),
        "covered": len(set(found)), "psnr": float(10 * np.log10(255**2 / np.mean(errors))),
    }  # fmt: skip


def sampled(model: limner.GeneratorModel, n: int, seed: int = 0) -> list[np.ndarray]:
    """Return n sampled loops, each uint8 [SAMPLED,H,W,C]."""
    made = np.stack(list(clips(model, n, seed, np.arange(SAMPLED) / SAMPLED)))  # [T,n,C,H,W]
    return [np.ascontiguousarray(made[:, i].transpose(0, 2, 3, 1)) for i in range(n)]


def animated(model: limner.GeneratorModel, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Return the loop of each picture uint8 [H,W,C], each uint8 [SAMPLED,H,W,C]."""
    made = []
    for picture in pictures:
        latent = model.invert(np.ascontiguousarray(picture.transpose(2, 0, 1)), encoder=False)
        made.append(np.stack(list(frames_of(model, latent, np.arange(SAMPLED) / SAMPLED))).transpose(0, 2, 3, 1))
    return made


def sheet(loops: list[np.ndarray]) -> np.ndarray:
    """Return twelve frames of each of the first twelve loops as one picture uint8 [C,H',W']."""
    rows = np.concatenate([loop[:: len(loop) // 12] for loop in loops[:12]]).transpose(0, 3, 1, 2)
    return grid(rows, columns=12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--images", type=int)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--run", type=Path, help="measure this run and train none")
    parser.add_argument("--set", nargs="*", default=[], help="options of the recipe, such as generator.width=16")
    asked = parser.parse_args()
    write_clips(asked.data, asked.out / "clips")
    run = asked.run or asked.out / "run"
    if asked.run is None:
        budget = {"images": asked.images} if asked.images else {"minutes": asked.minutes}
        changes = {name: json.loads(value) if value[:1].isdigit() else value for name, value in (one.split("=") for one in asked.set)}
        limner.train(
            str(asked.out / "clips"), recipe="motion", size=asked.size, out=run, doctor=False, metric="none", threads=1, changes=changes, **budget
        )  # fmt: skip
    model = limner.load(run)
    true = truth(asked.data, model.spec.size)
    read = prepare_clips(asked.out / "clips", size=model.spec.size, channels=3)
    own = read.frames.images.permute(0, 2, 3, 1).numpy()
    gifs = [own[a:b] for a, b in zip(read.first[:-1], read.first[1:], strict=True)]
    loops = sampled(model, CLIPS)
    result = {"images": model.description["training"]["images"], "seconds": model.description["training"]["seconds"]}
    moving = animated(model, [gif[0] for gif in gifs])
    result |= {"sampled": measured(loops, true), "animated": measured(moving, true), "the GIFs": measured(gifs, true)}
    (asked.out / "motion.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    for name, shown in (("sampled", loops), ("animated", moving), ("truth", gifs)):
        write_png(asked.out / f"{name}.png", sheet(shown))


if __name__ == "__main__":
    main()
