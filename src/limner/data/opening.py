"""From what a person gives (a path, a name, an array) to a Source: the one place that decides what kind it is."""

from __future__ import annotations

import difflib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from limner.data.archive import open_zip
from limner.data.arrays import IDX_IMAGES, from_array, idx_images, open_idx, open_numpy
from limner.data.decode import ENDINGS, UNREADABLE
from limner.data.folder import open_folder
from limner.data.labels import Labels, text_like
from limner.data.samples import SAMPLES, open_sample
from limner.data.source import Source

PACKED = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def open_source(data: str | Path | np.ndarray | tuple, labels: Labels = True) -> Source:
    """A folder, zip, IDX file or folder of them, .npy, .npz, array, (array, labels) or embedded sample -> a Source.

    labels: a CSV or JSON file that names each picture's class (an IDX or .npy file for arrays of those kinds); True
    for those that lie with the pictures; False where none are wanted, so that none is missed and none can be wrong.
    A path that exists goes before an embedded sample of the same name; "sample:fashion" always means the sample.
    Raises ValueError in one sentence that says what to do.
    """
    if not isinstance(data, (str, Path)) and not isinstance(labels, bool):
        raise ValueError("The labels of an array come with it: give (array, labels), and no labels file.")
    if isinstance(data, tuple):
        source = from_array(np.asarray(data[0]), None if data[1] is None or not labels else np.asarray(data[1]))
    elif not isinstance(data, (str, Path)):
        source = from_array(np.asarray(data))
    else:
        source = _open_path(str(data), labels)
    if text_like(source.name, source.classes):
        source.notes.append("This looks like writing, which reads wrong in a mirror: leave flips off.")
    return source


def _open_path(data: str, labels: Labels) -> Source:
    if not data.strip():
        raise ValueError(f"No data is named: give a folder of pictures, or a sample: {' or '.join(SAMPLES)}.")
    try:
        path = Path(data).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{data} names the home of a person whom this machine does not know.") from error
    if not isinstance(labels, bool):
        labels = Path(labels)
        if not labels.is_file():
            raise ValueError(f"The labels file {labels} does not exist.")
    if data.startswith("sample:"):
        if data.removeprefix("sample:") not in SAMPLES:
            raise ValueError(f"There is no sample {data.removeprefix('sample:')}: choose {' or '.join(SAMPLES)}.")
        return _sample(data.removeprefix("sample:"), labels)
    try:
        there = path.exists()
    except OSError as error:
        raise ValueError(f"{data} cannot be reached: {error.strerror}.") from error
    if not there:
        if data in SAMPLES:
            return _sample(data, labels)
        raise ValueError(_missing(data, path))
    source = (open_directory if path.is_dir() else open_file)(path, labels)
    if data in SAMPLES:
        said = f"Your own {path} is used and not the embedded sample of that name; sample:{data} means that one."
        source = replace(source, notes=[*source.notes, said])
    return source


def _sample(name: str, labels: Labels) -> Source:
    if isinstance(labels, Path):
        raise ValueError(f"The sample {name} has labels of its own: leave --labels out.")
    return open_sample(name, labels)


def open_directory(path: Path, labels: Labels) -> Source:
    """A folder that exists: IDX files where it holds those, else pictures."""
    try:
        if idx_images(path):
            return open_idx(path, labels)
    except OSError as error:
        raise ValueError(f"The folder {path} cannot be read: {error.strerror}.") from error
    return open_folder(path, labels)


def open_file(path: Path, labels: Labels) -> Source:
    """A file that exists, by its ending."""
    ending = path.suffix.lower()
    if IDX_IMAGES.search(path.name) or "idx1" in path.name:
        return open_idx(path, labels)
    if ending in (".npy", ".npz"):
        return open_numpy(path, labels)
    if ending == ".zip" or zipfile.is_zipfile(path):
        return open_zip(path, labels)
    if ending in ENDINGS or ending in UNREADABLE:
        raise ValueError(f"{path} is a single picture: give the folder that holds all of your pictures.")
    if ending in PACKED:
        raise ValueError(f"{path} is packed in a way that is not read here: unpack it and give the folder, or use a zip.")
    raise ValueError(f"{path} is no known kind of data: give a folder, a zip, an IDX file, a .npy or a .npz.")


def _missing(data: str, path: Path) -> str:
    """The sentence for a path that does not exist, with what was probably meant."""
    try:
        beside = [p.name for p in path.parent.iterdir() if not p.name.startswith(".")]
    except OSError:
        beside = []
    close = difflib.get_close_matches(path.name, beside, 1, 0.6)
    meant = str(path.with_name(close[0])) if close else next(iter(difflib.get_close_matches(data, SAMPLES, 1, 0.6)), "")
    hint = f"did you mean {meant}?" if meant else f"give a folder of pictures, or a sample: {' or '.join(SAMPLES)}."
    return f"{data} does not exist: {hint}"
