"""Write docs/options.md from the fields of the configs: `python scripts/build_options.py` (`--check`: exit 1 when it is stale)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from limner import networks
from limner.core.options import rows
from limner.networks import (
    convnet,
    hyperprior,
    motion,
    patch,
    plain,
    resnet,
    restoration_unet,
    text2image,
    unet,
    vae,
    vqvae,
)
from limner.recipes.config import (
    ClassifierRecipe,
    CodecRecipe,
    CutRecipe,
    CycleRecipe,
    MotionRecipe,
    PairedRecipe,
    Recipe,
    TextRecipe,
    Training,
    TranslatorTraining,
    VAERecipe,
    VQVAERecipe,
)
from limner.recipes.restore_config import ContextRecipe, RestorationRecipe, RestorationTraining
from limner.runs.options import Options
from limner.training.state import OptimizerConfig

PAGE = Path(__file__).parents[1] / "docs/options.md"
HEAD = """# Options

<!-- Written by scripts/build_options.py from the fields of the configs. -->

Every option of `limner train`: on the command line with hyphens (`--micro-batch 8`, `--generator.width 48`,
`--no-doctor`), in Python as a keyword or in `changes` (`limner.train(..., batch=64, changes={"generator.width": 48})`). Presets
(`limner recipes`) differ from these defaults; `limner train --recipe NAME --help` shows a preset's own. Groups such as
`generator` or `discriminator_optimizer` hold the options of a section further below.
"""


def table(config: Any, without: Iterable[str] = ()) -> list[str]:
    """The options of a config as a Markdown table; groups stand as one row, without what is in them."""
    lines = ["| option | default | values | meaning |", "|---|---|---|---|"]
    for name, default, values, meaning in rows(config):
        if "." in name or name in without:
            continue
        cells = (f"`{name}`", f"`{default}`" if default else "", values, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def inherited(recipe: type, base: type) -> list[str]:
    """The options that a recipe has from a base class with the same default."""
    mine, theirs = ({row[0]: row for row in rows(cls()) if "." not in row[0]} for cls in (recipe, base))
    return [name for name in theirs if mine[name] == theirs[name]]


def page() -> str:
    """The whole document."""
    lines = [HEAD, "## Every run", "", *table(Options()), "", "## Every recipe", "", *table(Training())]
    sections = (
        ("Generative adversarial networks", Recipe, Training),
        ("`text2image`", TextRecipe, Training),
        ("`motion`", MotionRecipe, Training),
        ("`vae`, `vaegan`", VAERecipe, Training),
        ("`vqvae`", VQVAERecipe, Training),
        ("Translators", TranslatorTraining, Training),
        ("`pix2pix`", PairedRecipe, TranslatorTraining),
        ("`cyclegan`", CycleRecipe, TranslatorTraining),
        ("`cut`", CutRecipe, TranslatorTraining),
        ("Restorers", RestorationTraining, Training),
        ("`super-resolution`, `denoise`, `deblur`, `dejpeg`, `restore`", RestorationRecipe, RestorationTraining),
        ("`inpaint`, `colorize`, `low-light`", ContextRecipe, RestorationTraining),
        ("`codec`, `codec-perceptual`", CodecRecipe, Training),
        ("Classifiers", ClassifierRecipe, Training),
    )
    for title, recipe, base in sections:
        lines += ["", f"## {title}", "", *table(recipe(), inherited(recipe, base))]
    lines += ["", "## Optimizers", "", *table(OptimizerConfig()), "", "## Networks"]
    for name in networks.NAMES:
        home = networks.architecture(name)
        for part, cls in (("generator", home.GeneratorConfig), ("discriminator", home.DiscriminatorConfig)):
            lines += ["", f"### `{name}`: {part}", "", *table(cls())]
    for part, config in (("generator", text2image.GeneratorConfig()), ("discriminator", text2image.DiscriminatorConfig())):
        lines += ["", f"### `text2image`: {part}", "", *table(config)]
    for part, cls in (("generator", motion.GeneratorConfig), ("encoder", motion.EncoderConfig)):  # the discriminators are those of conv
        lines += ["", f"### `motion`: {part}", "", *table(cls())]
    others = (
        (vae, "autoencoder of `vae` and `vaegan`"),
        (vqvae, "autoencoder of `vqvae`"),
        (unet, "translator of `pix2pix`"),
        (resnet, "translators of `cyclegan` and `cut`"),
        (plain, "restorer of `super-resolution`, `denoise`, `deblur`, `dejpeg` and `restore`"),
        (restoration_unet, "restorer of `inpaint`, `colorize` and `low-light`"),
        (hyperprior, "codec of `codec` and `codec-perceptual`"),
        (patch, "discriminator of `vaegan`, of translators, restorers and `codec-perceptual`"),
        (convnet, "the network of classifiers"),
    )
    for home, title in others:
        lines += ["", f"### `{home.__name__.rpartition('.')[2]}`: {title}", "", *table(home.Config())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = page()
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PAGE} is stale: run python scripts/build_options.py.")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
