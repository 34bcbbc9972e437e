"""Opens any data that a user gives (a path, a sample's name, an array) as a Source."""

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
from limner.data.image import SUFFIXES, UNREADABLE
from limner.data.labels import Labels
from limner.data.layout import CLASSES_FROM, ArrangeOptions, ClassesFrom
from limner.data.samples import SAMPLES, open_sample
from limner.data.source import Source

UNSUPPORTED_ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def open_source(
    data: str | Path | np.ndarray | tuple[np.ndarray, np.ndarray | None],
    labels: Labels = True,
    classes_from: ClassesFrom = "auto",
    splits: bool = True,
    partial: bool = False,
) -> Source:
    """Return a Source of a folder, zip, IDX file or folder of them, .npy, .npz, array, (array, labels) or embedded sample.

    labels: a CSV or JSON file with each picture's class (an IDX or .npy file for arrays of those kinds); True for the labels
    that lie with the pictures; False for none, which skips reading them.
    classes_from: whether the innermost (parent) or the outermost (top) folders of pictures are classes; auto first recognizes
    folders of splits, then classes below them. splits: hold out the validation split (`Source.validation`) if classes_from is
    auto; False uses every picture. partial: keep pictures without a class, whose label is then `core.condition.UNLABELED`:
    those that the labels file does not name, those beside class folders or in a folder `unlabeled`, and those with the label
    -1 of an array. A labels file may then also be given for arrays; it names a picture by its number.
    An existing path takes precedence over an embedded sample of the same name; "sample:fashion" is always the sample.
    Raises ValueError when the data cannot be opened.
    """
    if not isinstance(data, (str, Path)) and not isinstance(labels, bool):
        raise ValueError("The labels of an array come with it: give (array, labels), and not a labels file.")
    if classes_from not in CLASSES_FROM:
        raise ValueError(f"classes_from {classes_from!r} is unknown: choose {', '.join(CLASSES_FROM)}.")
    if classes_from != "auto" and not isinstance(labels, bool):
        raise ValueError("--labels gives the classes, and --classes-from takes them from folders: leave one out.")
    if isinstance(data, tuple):
        source = from_array(np.asarray(data[0]), None if data[1] is None or not labels else np.asarray(data[1]), partial=partial)
    elif not isinstance(data, (str, Path)):
        source = from_array(np.asarray(data))
    else:
        source = _open_path(str(data), ArrangeOptions(labels, classes_from, splits, partial))
    return source


def _open_path(data: str, options: ArrangeOptions) -> Source:
    if not data.strip():
        raise ValueError(f"No data is given: give a folder of pictures, or a sample: {' or '.join(SAMPLES)}.")
    if not isinstance(options.labels, bool):
        table = expand_path(options.labels)
        if not is_file(table):
            raise ValueError(f"The labels file {shortened(table)} does not exist, or is not a file.")
        options = replace(options, labels=table)
    if data.startswith("sample:"):
        if data.removeprefix("sample:") not in SAMPLES:
            raise ValueError(f"There is no sample {data.removeprefix('sample:')}: choose {' or '.join(SAMPLES)}.")
        return _sample(data.removeprefix("sample:"), options)
    path = expand_path(data)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if data in SAMPLES:
            return _sample(data, options)
        raise ValueError(missing(data, path, f"give a folder of pictures, or a sample: {' or '.join(SAMPLES)}.")) from None
    except (OSError, ValueError) as error:  # a ValueError: a null character
        raise ValueError(f"{shortened(data)} cannot be reached: {reason_of(error)}.") from error
    source = open_directory(path, options) if path.is_dir() else open_file(path, options)
    if data in SAMPLES:
        note = f"Your own {path} is used and not the embedded sample of that name; give sample:{data} for the sample."
        source = replace(source, notes=[*source.notes, note])
    return source


def expand_path(path: str | Path) -> Path:
    """Return a path with ~ expanded. Raises ValueError when the home folder is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{shortened(path)} cannot be reached: there is no user of that name here.") from error


def is_file(path: Path) -> bool:
    """Return whether a path is a regular file, not a pipe or device. Raises ValueError when this cannot be determined."""
    try:
        return path.is_file()
    except (OSError, ValueError) as error:
        raise ValueError(f"{shortened(path)} cannot be reached: {reason_of(error)}.") from error


def reason_of(error: OSError | ValueError) -> str:
    """Return the system's message for an error, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _sample(name: str, options: ArrangeOptions) -> Source:
    if isinstance(options.labels, Path):
        raise ValueError(f"The sample {name} has labels of its own: leave --labels out.")
    _check_no_folders(f"The sample {name}", options)
    return open_sample(name, options.labels)


def _check_no_folders(what: str, options: ArrangeOptions) -> None:
    if options.classes_from != "auto":
        raise ValueError(f"{what} holds no folders that --classes-from could use as classes: leave it out.")


def open_directory(path: Path, options: ArrangeOptions) -> Source:
    """Open an existing folder: its IDX files if it holds some, otherwise its pictures."""
    try:
        arrays = idx_images(path)
    except OSError as error:
        raise ValueError(f"The folder {shortened(path)} cannot be read: {reason_of(error)}.") from error
    if arrays:
        _check_no_folders(f"The folder of IDX files {path}", options)
        return open_idx(path, options.labels, options.partial)
    return open_folder(path, options)


def open_file(path: Path, options: ArrangeOptions) -> Source:
    """Open an existing path other than a folder, by its suffix."""
    if not path.is_file():
        raise ValueError(f"{path} is a pipe or a device, not a file: give a folder, a zip, an IDX file, a .npy or a .npz.")
    ending = path.suffix.lower()
    idx, array = bool(IDX_IMAGES.search(path.name)) or "idx1" in path.name, ending in (".npy", ".npz")
    if idx or array:
        _check_no_folders(str(path), options)
        return (open_idx if idx else open_numpy)(path, options.labels, options.partial)
    if ending == ".zip" or zipfile.is_zipfile(path):
        return open_zip(path, options)
    if ending in SUFFIXES or ending in UNREADABLE:
        raise ValueError(f"{path} is a single picture: give the folder that holds all of your pictures.")
    if ending in UNSUPPORTED_ARCHIVES:
        raise ValueError(f"{path} is an archive of an unsupported format: unpack it and give the folder, or use a zip.")
    raise ValueError(f"{path} is an unknown kind of data: give a folder, a zip, an IDX file, a .npy or a .npz.")


def missing(data: str, path: Path, otherwise: str) -> str:
    """Return the error message for a path that does not exist: a name that resembles it, or what to do `otherwise`."""
    try:
        beside = [p.name for p in path.parent.iterdir() if not p.name.startswith(".")]
    except OSError:
        beside = []
    close = difflib.get_close_matches(path.name, beside, 1, 0.6)
    meant = printable(path.with_name(close[0])) if close else next(iter(difflib.get_close_matches(data, SAMPLES, 1, 0.6)), "")
    return f"{shortened(data)} does not exist: {f'did you mean {meant}?' if meant else otherwise}"
