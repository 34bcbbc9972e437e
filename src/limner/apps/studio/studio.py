"""The studio's state on the server: where runs lie, what was started, which models are in memory. Nothing here is lost with it:
runs, launches and drops stand in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.apps.studio.dataset import Drops, Inspection
from limner.apps.studio.jobs import Jobs
from limner.apps.studio.latent_map import Map
from limner.apps.studio.launch import FOLDER, Launches, check_name
from limner.apps.studio.models import Load, Loaded, Models
from limner.apps.studio.newest import Newest
from limner.apps.studio.runs import Runs
from limner.apps.web.errors import Refusal
from limner.apps.web.registry import Registry
from limner.core.text import shortened

MAX_MINUTES = 60 * 24 * 30.0


@dataclass(frozen=True)
class RecipeInfo:
    """A recipe as the page lists it. kind: of its product."""

    name: str
    summary: str
    kind: str


class Studio:
    """Everything that requests are answered from.

    folders: of runs, or runs; new runs go to the first that is no run. load: `families.load.load`. program, standby: as `Launches`
    takes them. recipes: what a person can choose from.
    """

    def __init__(
        self, folders: Sequence[Path], home: Path, load: Load, program: Sequence[str], recipes: Sequence[RecipeInfo],
        standby: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.home, self.recipes = home, list(recipes)
        self.launches = Launches(home, program, standby)
        self.runs = Runs([*folders], self.launches)
        self.models = Models(load)
        self.newest, self.jobs = Newest(), Jobs()
        self.drops = Drops(home / FOLDER)
        self.inspections: Registry[Inspection] = Registry("inspection", 32)
        self.maps: Registry[Map] = Registry("map", 16)
        self.blobs: Registry[tuple[bytes, str]] = Registry("picture", 64)  # (content, type)

    def folder(self, run: str) -> Path:
        """Return the folder of a run. Raises Refusal, 404."""
        try:
            return self.runs.path(run)
        except KeyError:
            raise Refusal(f"There is no run {shortened(run)!r} here.", 404) from None

    def model(self, run: str, newest: bool = False) -> Loaded:
        """Return the model of a run. Raises ValueError when it has no weights yet."""
        return self.models.get(self.folder(run), newest)

    def train_command(self, request: Mapping[str, Any]) -> tuple[list[str], Path, str, str]:
        """Return the command line of a training, its run folder, and the recipe's name and kind.

        request: source, second, recipe, minutes, name, size. Raises ValueError for a value out of range.
        """
        source, second, recipe = (str(request.get(key) or "") for key in ("source", "second", "recipe"))
        recipe = recipe or "auto"
        if not source.strip():
            raise ValueError("Choose pictures first: a folder, or a sample.")
        if any(part.startswith("-") for part in (source, second)):
            raise ValueError("A path that begins with a dash is written as ./-name.")
        known = {one.name: one for one in self.recipes}
        if recipe not in known:
            raise ValueError(f"The recipe {recipe[:60]!r} is unknown.")
        try:
            minutes, size = float(request.get("minutes") or 10), request.get("size")
            side = None if size in (None, "") else int(str(size))
        except ValueError:
            raise ValueError("Minutes and size are numbers.") from None
        if not 0.05 <= minutes <= MAX_MINUTES:
            raise ValueError("A training takes from 3 seconds to 30 days: give the minutes.")
        if side is not None and not 4 <= side <= 2048:
            raise ValueError("The size goes from 4 to 2,048 pixels.")
        folder = self.home / check_name(str(request.get("name") or self.free_name(source, recipe)))
        parts = ["limner", "train", source, *([second] if second else [])]
        parts += ["--recipe", recipe] if recipe != "auto" else []
        parts += ["--size", str(side)] if side is not None else []
        return [*parts, "--minutes", f"{minutes:g}", "--out", str(folder)], folder, recipe, known[recipe].kind

    def free_name(self, source: str, recipe: str) -> str:
        """Return a name for a new run that no folder has."""
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(source.rstrip("/\\")).stem).strip("-")[:40] or "pictures"
        stem = stem if recipe == "auto" else f"{stem}-{recipe}"
        return next(name for n in range(1, 100_000) if not (self.home / (name := stem if n == 1 else f"{stem}-{n}")).exists())
