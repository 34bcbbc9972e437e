"""The public names of `limner`: they exist, their documentation states all that a caller gives and gets, and its examples run."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import limner

ROOT = Path(__file__).parents[1]
NAMES = [name for name in limner.__all__ if name != "__version__"]
METHODS = [  # of what `limner.load` returns
    limner.GeneratorModel.sample,
    limner.Autoencoder.encode,
    limner.Autoencoder.decode,
    limner.Autoencoder.reconstruct,
    limner.Autoencoder.between,
    limner.Translator.translate,
    limner.Classifier.classify,
    limner.Classifier.encode,
    limner.Codec.compress,
    limner.Codec.decompress,
    limner.Restorer.restore,
    limner.ImageArray.save,
]


def functions() -> Iterator[Any]:
    """The public functions, those that train first: the examples of others use their runs."""
    yield limner.train
    yield limner.load
    yield from (function for name in NAMES if inspect.isfunction(function := getattr(limner, name)) and name not in ("train", "load"))
    yield from METHODS


def sections(function: Callable[..., Any]) -> dict[str, str]:
    """The parts of a docstring by their numpydoc headings."""
    parts = re.split(r"^(\w+)\n-+\n", inspect.getdoc(function) or "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


every_function = pytest.mark.parametrize("function", list(functions()), ids=lambda function: function.__qualname__)


def test_names_are_imported_at_first_use() -> None:
    assert sorted(limner.__all__, key=lambda name: (name.strip("_").islower(), name)) == [*limner.__all__]
    assert all(hasattr(limner, name) for name in limner.__all__)
    assert all(inspect.getdoc(getattr(limner, name)) for name in NAMES)
    code = "import sys, limner; dir(limner); print({'torch', 'numpy'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        limner.nothing  # noqa: B018


@every_function
def test_documentation_states_parameters_returns_and_raises(function: Callable[..., Any]) -> None:
    found, signature = sections(function), inspect.signature(function)
    documented = [name for line in re.findall(r"^(\S.*)$", found["Parameters"], flags=re.MULTILINE) for name in line.split(", ")]
    assert documented == [name for name in signature.parameters if name != "self"]
    assert re.match(r"\S.*", found["Returns"]) and ">>> import limner" in found["Examples"]
    source = inspect.getsource(function)
    assert "Raises" in found or "raise ValueError" not in source


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner, finder = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF), doctest.DocTestFinder(recurse=False)
    report: list[str] = []
    for function in functions():
        (test,) = finder.find(function, function.__qualname__, globs={"__name__": "__main__"})
        assert test.examples, f"{function.__qualname__} has no example"
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == os.path.relpath(limner.__file__, ROOT)
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+", limner.__version__)


def test_every_public_name_is_in_the_api_reference() -> None:
    page = (ROOT / "docs/api.md").read_text()
    documented = re.findall(r"^::: limner\.(\w+)$", page, flags=re.MULTILINE)
    assert sorted(documented) == sorted(NAMES)
    assert (Path(limner.__file__).parent / "py.typed").exists()
