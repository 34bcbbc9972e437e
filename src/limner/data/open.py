"""From what a person gives (a path, a name, an array) to a Source: the one place that decides what kind it is."""

from __future__ import annotations

import difflib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from limner.core.text import printable, shortened
from limner.data.archive import open_zip
from limner.data.arrays import IDX_IMAGES, from_array, idx_images, open_idx, open_numpy
from limner.data.folder import open_folder
from limner.data.image import ENDINGS, UNREADABLE
from limner.data.labels import Labels, text_like
from limner.data.layout import CLASSES_FROM, ClassesFrom, Wish
from limner.data.samples import SAMPLES, open_sample
from limner.data.source import Source

PACKED = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def open_source(
    data: str | Path | np.ndarray | tuple[np.ndarray, np.ndarray | None],
    labels: Labels = True,
    classes_from: ClassesFrom = "auto",
    splits: bool = True,
) -> Source:
    """A folder, zip, IDX file or folder of them, .npy, .npz, array, (array, labels) or embedded sample -> a Source.

    labels: a CSV or JSON file that names each picture's class (an IDX or .npy file for arrays of those kinds); True
    for those that lie with the pictures; False where none are wanted, so that none is missed and none can be wrong.
    classes_from: whether the innermost (parent) or the outermost (top) folders of pictures are classes; auto recognizes
    folders of splits first, and classes below them. splits: hold the validation split out (`Source.validation`) where
    classes_from is auto; False takes every picture.
    A path that exists goes before an embedded sample of the same name; "sample:fashion" always means the sample.
    Raises ValueError in one sentence that says what to do.
    """
    if not isinstance(data, (str, Path)) and not isinstance(labels, bool):
        raise ValueError("The labels of an array come with it: give (array, labels), and no labels file.")
    if classes_from not in CLASSES_FROM:
        raise ValueError(f"classes_from {classes_from!r} is not known: choose {', '.join(CLASSES_FROM)}.")
    if classes_from != "auto" and not isinstance(labels, bool):
        raise ValueError("--labels names the classes, and --classes-from takes them from folders: leave one out.")
    if isinstance(data, tuple):
        source = from_array(np.asarray(data[0]), None if data[1] is None or not labels else np.asarray(data[1]))
    elif not isinstance(data, (str, Path)):
        source = from_array(np.asarray(data))
    else:
        source = _open_path(str(data), Wish(labels, classes_from, splits))
    if text_like(source.name, source.classes):
        source.notes.append("This looks like writing, which reads wrong in a mirror: leave flips off.")
    return source


def _open_path(data: str, stop_requested: Wish) -> Source:
    if not data.strip():
        raise ValueError(f"No data is named: give a folder of pictures, or a sample: {' or '.join(SAMPLES)}.")
    if not isinstance(stop_requested.labels, bool):
        table = located(stop_requested.labels)
        if not is_file(table):
            raise ValueError(f"The labels file {shortened(table)} does not exist, or is no file.")
        stop_requested = replace(stop_requested, labels=table)
    if data.startswith("sample:"):
        if data.removeprefix("sample:") not in SAMPLES:
            raise ValueError(f"There is no sample {data.removeprefix('sample:')}: choose {' or '.join(SAMPLES)}.")
        return _sample(data.removeprefix("sample:"), stop_requested)
    path = located(data)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if data in SAMPLES:
            return _sample(data, stop_requested)
        raise ValueError(_missing(data, path)) from None
    except (OSError, ValueError) as error:  # a ValueError: a null character
        raise ValueError(f"{shortened(data)} cannot be reached: {reason_of(error)}.") from error
    source = open_directory(path, stop_requested) if path.is_dir() else open_file(path, stop_requested)
    if data in SAMPLES:
        said = f"Your own {path} is used and not the embedded sample of that name; sample:{data} means that one."
        source = replace(source, notes=[*source.notes, said])
    return source


def located(path: str | Path) -> Path:
    """A path with ~ replaced by a home folder. Raises ValueError in one sentence where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{shortened(path)} cannot be reached: there is no user of that name here.") from error


def is_file(path: Path) -> bool:
    """Whether a file stands there, which is neither a pipe nor a device. Raises ValueError where that cannot be known."""
    try:
        return path.is_file()
    except (OSError, ValueError) as error:
        raise ValueError(f"{shortened(path)} cannot be reached: {reason_of(error)}.") from error


def reason_of(error: OSError | ValueError) -> str:
    """The system's words for an error, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _sample(name: str, stop_requested: Wish) -> Source:
    if isinstance(stop_requested.labels, Path):
        raise ValueError(f"The sample {name} has labels of its own: leave --labels out.")
    _no_folders(f"The sample {name}", stop_requested)
    return open_sample(name, stop_requested.labels)


def _no_folders(what: str, stop_requested: Wish) -> None:
    if stop_requested.classes_from != "auto":
        raise ValueError(f"{what} holds no folders that --classes-from could take classes from: leave it out.")


def open_directory(path: Path, stop_requested: Wish) -> Source:
    """A folder that exists: IDX files where it holds those, else pictures."""
    try:
        arrays = idx_images(path)
    except OSError as error:
        raise ValueError(f"The folder {shortened(path)} cannot be read: {reason_of(error)}.") from error
    if arrays:
        _no_folders(f"The folder of IDX files {path}", stop_requested)
        return open_idx(path, stop_requested.labels)
    return open_folder(path, stop_requested)


def open_file(path: Path, stop_requested: Wish) -> Source:
    """What exists and is no folder, by its ending."""
    if not path.is_file():
        raise ValueError(f"{path} is a pipe or a device and no file: give a folder, a zip, an IDX file, a .npy or a .npz.")
    ending = path.suffix.lower()
    idx, array = bool(IDX_IMAGES.search(path.name)) or "idx1" in path.name, ending in (".npy", ".npz")
    if idx or array:
        _no_folders(str(path), stop_requested)
        return open_idx(path, stop_requested.labels) if idx else open_numpy(path, stop_requested.labels)
    if ending == ".zip" or zipfile.is_zipfile(path):
        return open_zip(path, stop_requested)
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
    meant = printable(path.with_name(close[0])) if close else next(iter(difflib.get_close_matches(data, SAMPLES, 1, 0.6)), "")
    hint = f"did you mean {meant}?" if meant else f"give a folder of pictures, or a sample: {' or '.join(SAMPLES)}."
    return f"{shortened(data)} does not exist: {hint}"
