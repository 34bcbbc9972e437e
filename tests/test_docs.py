"""The documents agree with the code: links lead somewhere, and the examples in CONTRIBUTING.md are those that are tested."""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.families import Family
from limner.losses.adversarial import Objective

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks/README.md"])
EXAMPLE = ROOT / "examples/plugin"

# ---- links -----------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """A page without its code, in which brackets are no links."""
    text = re.sub(r"^(```+|~~~+).*?^\1[ \t]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+).+?\1", "", text)


def links(text: str) -> list[str]:
    """The targets of all Markdown links, images and HTML attributes of a page."""
    text = prose(text)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text)
    found += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    return found + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown make them of headings in ASCII, and of its HTML."""
    text = re.sub(r"^(```+|~~~+).*?^\1[ \t]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set(re.findall(r"(?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower().replace("`", "")).strip().replace(" ", "-")
        found.add(next(name for i in range(99) if (name := slug if not i else f"{slug}-{i}") not in found))
    return found


def broken(page: Path, text: str) -> Iterator[str]:
    """What is wrong with the links of a page."""
    for link in links(text):
        if re.match(r"(https?|mailto):", link):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.is_relative_to(ROOT):
            yield f"{link} leaves the repository"
        elif not target.exists():
            yield f"{link} does not exist"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text(encoding="utf-8") if place else text)):
            yield f"{link} names no heading of {target.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_broken_links_are_found() -> None:
    text = (
        '# A head: `x`\n[a](nowhere.md) [b](docs/gan.md#nothing) ![c](../../x.png "c") [d](#a-head-x) [e](#other) <img src="y.png">\n'
        "`[code](no.md)` [f](https://example.org/z)\n```\n[g](no.md)\n# other\n```\n[h]: gone.md\n"
    )
    assert list(broken(ROOT / "README.md", text)) == [
        "nowhere.md does not exist",
        "docs/gan.md#nothing names no heading of gan.md",
        "../../x.png leaves the repository",
        "#other names no heading of README.md",
        "gone.md does not exist",
        "y.png does not exist",
    ]


# ---- CONTRIBUTING.md -------------------------------------------------------------------------------------------------


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section of CONTRIBUTING.md, in order. section: how its heading begins."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## {section}.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)


def run(section: str) -> types.ModuleType:
    """A section's Python code as a module by itself."""
    module = types.ModuleType("contributing_" + re.sub(r"\W", "_", section))
    sys.modules[module.__name__] = module  # dataclasses look there for the types of their fields
    exec(compile("\n\n".join(blocks(section, "python")), section, "exec"), module.__dict__)
    return module


def without_imports(source: str) -> str:
    """Python code from its first line that imports nothing."""
    code = [node for node in ast.parse(source).body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    first = min(node.lineno - len(getattr(node, "decorator_list", [])) for node in code)
    return "\n".join(source.splitlines()[first - 1 :]).strip()


def imports(source: str) -> set[tuple[str, str]]:
    """(module, name) of what Python code imports."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, alias.asname or "") for alias in node.names}
    return found


SECTIONS = ("Add your own architecture", "Add your own objective", "Add your own family")


@pytest.mark.parametrize("section", SECTIONS)
def test_code_is_that_of_the_example(section: str) -> None:
    source, project = ((EXAMPLE / name).read_text() for name in ("limner_example.py", "pyproject.toml"))
    python, toml = blocks(section, "python"), blocks(section, "toml")
    assert python and toml
    for block in python:
        assert without_imports(block) in source
        assert imports(block) <= imports(source)
    assert all(block.strip() in project for block in toml)


def test_architecture_runs_by_itself() -> None:
    home = run("Add your own architecture")
    for spec in (ImageSpec(1, 16, 20), ImageSpec(4, 33, 17, Condition.classes(3)), ImageSpec(3, 16, 16, Condition.vector(2))):
        generator, discriminator = home.Generator(spec), home.Discriminator(spec)
        c = spec.condition.examples(2)
        images = generator(torch.randn(2, generator.z_size), c)
        assert images.shape == (2, spec.channels, *spec.size) and images.abs().max() <= 1 and images.std() > 0.01
        assert discriminator(images, c).shape == (2,)


def test_objective_and_family_run_by_themselves() -> None:
    objective = run("Add your own objective").PEARSON
    assert isinstance(objective, Objective)
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 2.0])
    assert objective.discriminator(real, fake).tolist() == [0.0, 6.5] and objective.generator(real, fake).tolist() == [0.5, 2.0]
    assert isinstance(run("Add your own family").COLORIZER, Family)
