"""What the commands `directions`, `edit`, `mix` and `interpolate` do for a generator: files in, files out, one sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limner.apps.classify import Classifier
from limner.apps.editing.codes import codes_of
from limner.apps.editing.direction_sheet import STEPS, share, sheet
from limner.apps.editing.directions import FOLDER, NAME, Directions
from limner.apps.editing.edit import by_seed, edit, mix, opened
from limner.apps.editing.effect import STEP
from limner.apps.editing.find import AXIS_COUNT, find
from limner.apps.editing.latent import ENDING, Latent, render
from limner.apps.editing.path import film, row
from limner.apps.editing.predictor import independent
from limner.apps.model import check_numbers
from limner.apps.output import SHEETS, Progress, form, write_pictures, write_sheet
from limner.apps.sample import destination, is_film, refuse_seconds
from limner.core.images import png, write_png

if TYPE_CHECKING:
    from rich.table import Table

MAX_MARKED = 256
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def find_directions(
    model: Any, out: Path | None = None, like: Sequence[Path] = (), classifier: Classifier | None = None, data: str | None = None,
    labels: Path | None = None, count: int = AXIS_COUNT, steps: int = STEPS, at: Path | None = None, seed: int = 0,
    progress: Progress | None = None, learning: Progress | None = None,
) -> tuple[Directions, str]:  # fmt: skip
    """Find, measure and store the directions of a generator, and draw them on a sheet.

    out: a PNG; None writes editing/directions.png in the run folder. like: marked latents or pictures, or folders of them.
    classifier, data, labels: see `predictor.independent`. at: the latent or picture that the sheet moves; None takes the sample
    of the seed. Returns the directions and a sentence. Raises ValueError for what cannot be used, before anything is measured.
    """
    check_numbers(steps, seed)
    if steps < 2:
        raise ValueError("A row has at least 2 pictures: give --steps 2 or more.")
    if not 0 <= count <= 100:
        raise ValueError(f"From 0 to 100 axes are found, not {count}.")
    where = png(model.folder / FOLDER / f"{NAME}.png" if out is None else destination(model.folder, out, ""))
    files = _listed(like)
    if like and len(files) < 2:
        raise ValueError("Mark at least 2 pictures, better 8: what they have in common cannot be seen in one.")
    marked = [opened(model, path) for path in files]
    latent = by_seed(model, seed) if at is None else opened(model, at)
    predictor = independent(model, classifier, data, labels, learning)
    found = find(model, predictor, count, seed, progress, codes_of(model, marked).rows if marked else None)
    found.save(model.folder)
    write_png(where, sheet(model, found, latent, steps))
    against = f", classes by {found.predictor}" if found.predictor else ""
    return found, f"{len(found)} directions of {model.folder} are measured{against}; the sheet is {where}."


def _listed(given: Sequence[Path]) -> list[Path]:
    """Return the files of marked pictures: latents, pictures, and those in folders. Raises ValueError for too many, or none."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.name.endswith(ENDING))
            found += inside or sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"There is no file {path}: give latents ({ENDING}), pictures, or a folder of them.")
    if given and not found:
        raise ValueError(f"{given[0]} holds no latents ({ENDING}) and no pictures: mark some by copying them there.")
    if len(found) > MAX_MARKED:
        raise ValueError(f"At most {MAX_MARKED} pictures are marked at once, not {len(found):,}.")
    return found


def edit_picture(
    model: Any, source: Path | None, moves: Sequence[tuple[str, float]], out: Path | None = None, seed: int = 0,
    label: str | None = None, layers: Sequence[int] | None = None, keep: bool = True,
) -> str:  # fmt: skip
    """Write the edited picture of a latent, or of a seed. Returns a sentence.

    out: a .png, .jpg or .webp, or a .latent.npz for the latent itself; None writes edited.png in the run folder.
    """
    out = _result(model, out, "edited.png")
    if source is not None and label is not None:
        raise ValueError("A latent has its class: leave --label out, or move it with --direction class:NAME.")
    latent = by_seed(model, seed, label) if source is None else opened(model, source)
    made = edit(model, latent, moves, layers=layers, keep=keep) if moves else latent
    _write(model, out, made)
    what = "seed " + str(seed) if source is None else source.name
    moved = "".join(f", {name} by {by:g}" for name, by in moves)
    return f"{what}{moved} is in {out}."


def with_amounts(model: Any, names: Sequence[str], amounts: Sequence[float]) -> list[tuple[str, float]]:
    """Return directions with their amounts; without any, 2 standard deviations, or 1 for a class.

    Raises ValueError unless there are as many amounts as names or none, and for an unknown name.
    """
    if amounts and len(amounts) != len(names):
        raise ValueError(f"There are {len(names)} directions and {len(amounts)} amounts: give one --by after each --direction.")
    if not names:
        return []
    stored = Directions.load(model)
    if stored is None:
        raise ValueError(f"{model.folder} has no directions yet: find them with `limner directions {model.folder}`.")
    defaults = [1.0 if stored[name].label is not None else STEP for name in names]
    return [(stored[name].name, by) for name, by in zip(names, amounts or defaults, strict=True)]


def mix_pictures(model: Any, a: Path, b: Path, layers: Sequence[int], out: Path | None = None) -> str:
    """Write the picture with some layers of b and all others of a. Returns a sentence. out: as of `edit_picture`."""
    out = _result(model, out, "mixed.png")
    _write(model, out, mix(model, opened(model, a), opened(model, b), layers))
    return f"{a.name} with layers {', '.join(map(str, layers))} of {b.name} is in {out}."


def interpolate(model: Any, a: Path, b: Path, out: Path | None = None, steps: int = 10, seconds: float | None = None,
                progress: Progress | None = None) -> str:  # fmt: skip
    """Write pictures from a to b: a row (.png, .jpg, .webp), a folder, a .zip, or a film. Returns a sentence."""
    out = destination(model.folder, out, "between.png")
    keys = [opened(model, a), opened(model, b)]
    if is_film(out, seconds):
        return film(model, keys, out, 4.0 if seconds is None else seconds, False, progress)
    refuse_seconds(seconds)
    form(out)
    made = row(model, keys[0], keys[1], steps)
    write_pictures(out, iter([made]), len(made), model.spec, len(made) if form(out) in SHEETS else None, progress)
    return f"{len(made)} pictures from {a.name} to {b.name} are in {out}."


def walk_frames(model: Any, keys: Sequence[Path], out: Path | None, seconds: float | None, loop: bool, unused: Sequence[object],
                progress: Progress | None = None, fps: float | None = None) -> str:  # fmt: skip
    """Write a film past key frames. unused: options of other walks, which are refused. Returns a sentence."""
    if not keys:
        raise ValueError("--loop closes a walk past key frames: give them with --frames a.latent.npz b.latent.npz; other walks are closed.")
    if any(value is not None for value in unused):
        raise ValueError("Key frames have their classes and styles: leave --label, --truncation and --columns out.")
    return film(model, [opened(model, key) for key in keys], out, seconds, loop, progress, fps)


def _result(model: Any, out: Path | None, name: str) -> Path:
    """Return where a result goes. Raises ValueError for a suffix that is none of a picture or a latent."""
    out = destination(model.folder, out, name)
    if not out.name.endswith(ENDING) and out.suffix.lower() not in SHEETS:
        raise ValueError(f"The result is a picture (.png, .jpg, .webp) or a latent ({ENDING}), not {out.name!r}.")
    return out


def _write(model: Any, out: Path, latent: Latent) -> None:
    if out.name.endswith(ENDING):
        latent.save(out)
    else:
        write_sheet(out, np.asarray(render(model, [latent])[0]))


def table(found: Directions) -> Table:
    """Return the directions and their measured effects as a rich table."""
    from rich.markup import escape
    from rich.table import Table

    result = Table(title="changes in standard deviations; identity among 1,000", title_justify="left")
    for name in ("direction", "method", "by", "changes most", "then", "identity", "other class", "reaches it"):
        result.add_column(name, overflow="fold")
    for d in found:
        e = d.effect
        if e is None:
            result.add_row(escape(d.name), d.method, "", "not measured")
            continue
        result.add_row(
            escape(d.name), d.method, f"{e.by:g}", f"{e.main} {e.attributes[e.main]:+.2f}", f"{e.leak} {e.attributes[e.leak]:+.2f}",
            share(e.identity), share(e.changed), share(e.to_class),
        )  # fmt: skip
    return result


def to_json(found: Directions) -> str:
    """Return names, methods and effects as JSON."""
    entries = [{"name": d.name, "method": d.method, "effect": None if d.effect is None else d.effect.to_json()} for d in found]
    return json.dumps({"predictor": found.predictor, "directions": entries}, indent=1, ensure_ascii=False)


