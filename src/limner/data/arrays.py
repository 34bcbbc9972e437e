"""Pictures in arrays: IDX files (as of MNIST), .npy and .npz, and arrays in memory."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from limner.core.condition import UNLABELED
from limner.core.text import printable
from limner.data.image import reason
from limner.data.labels import Labels, encode_classes, read_labels
from limner.data.source import Source, short_name

IMAGE_KEYS = ("images", "image", "x", "X", "data", "x_train", "train_images", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "Y", "targets", "y_train", "train_labels", "arr_1")
CLASS_KEYS = ("classes", "class_names", "names")
IDX_IMAGES = re.compile(r"images?[-._]idx[34]-ubyte(\.gz)?$|idx[34](-ubyte)?(\.gz)?$", re.IGNORECASE)
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
IDX_TYPES: dict[int, str] = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def as_pictures(array: np.ndarray, what: str) -> tuple[np.ndarray, list[str]]:
    """Convert [N,H,W], [N,H,W,C] or [N,C,H,W] of a common number type to (uint8 [N,H,W,C] with C 1, 3 or 4, notes).

    uint8 is not copied if the layout allows. Raises ValueError, with a message that starts with `what`, for other shapes and
    ranges.
    """
    shape = tuple(array.shape)
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise ValueError(f"{what} holds {array.dtype} values, not pictures: give numbers, best uint8.")
    if array.ndim == 3 and shape[-1] not in (3, 4):
        array = array[..., None]
    elif array.ndim == 4 and shape[-1] in (1, 3, 4):
        pass
    elif array.ndim == 4 and shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    else:
        raise ValueError(
            f"{what} has the shape {list(shape)}: pictures have [N,H,W], [N,H,W,C] or [N,C,H,W] with C 1, 3 or 4."
        )
    if 0 in array.shape:
        raise ValueError(f"{what} is empty (its shape is {list(shape)}): there is nothing to train on.")
    return _as_bytes(array, what)


def _as_bytes(array: np.ndarray, what: str) -> tuple[np.ndarray, list[str]]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array), []
    if array.dtype == bool:
        return np.ascontiguousarray(array).astype(np.uint8) * 255, ["Boolean values were converted to black and white."]
    low, high = array.min(), array.max()  # a NaN makes both NaN
    if array.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{what} holds values that are not finite: correct or remove those pictures.")
        for least, most in ((0, 1), (-1, 1), (0, 255)):
            if low >= least - 1e-3 and high <= most + 1e-3:
                break
        else:
            raise ValueError(f"{what} has values from {low:.4g} to {high:.4g}: rescale them to 0..1, -1..1 or 0..255.")
    elif low < 0:
        raise ValueError(f"{what} has negative whole numbers (minimum {low}): give 0 to 255.")
    elif high <= 255 and array.dtype != np.uint16:
        least, most = 0, 255
    elif high <= 65535:
        least, most = 0, 65535
    else:
        raise ValueError(f"{what} has values up to {high}: rescale them to 0..255.")
    scaled = np.empty(array.shape, np.uint8)
    for i in range(0, len(array), 1024):  # in chunks: a float64 copy of everything might not fit in memory
        piece = (array[i : i + 1024].astype(np.float64) - least) * (255 / (most - least))
        scaled[i : i + 1024] = np.clip(np.rint(piece), 0, 255)
    return scaled, [f"Values of type {array.dtype} were assumed to range from {least} to {most} and scaled to 0 to 255."]


def as_labels(
    labels: np.ndarray, count: int, what: str, names: tuple[str, ...] = (), partial: bool = False
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Convert [N] whole numbers or texts, or one-hot [N,K], to (classes, int64 [N]); a single class gives ((), None).

    partial: -1, "" and NaN are UNLABELED and no class.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.shape[0] == count:
        labels = labels.argmax(1)
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise ValueError(f"{what} has {len(labels):,} labels for {count:,} pictures: the numbers must be equal.")
    if partial and labels.dtype.kind == "f":
        labels = np.where(np.isnan(labels), UNLABELED, labels)
    if labels.dtype.kind == "f" and np.array_equal(labels, labels.astype(np.int64)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuUS":
        raise ValueError(f"{what} has labels of type {labels.dtype}: give whole numbers or names.")
    if names and labels.dtype.kind in "iu" and labels.min() >= (UNLABELED if partial else 0) and labels.max() < len(names):
        return names, labels.astype(np.int64)
    texts = [printable(t.decode("utf-8", "replace") if isinstance(t, bytes) else t) for t in labels.tolist()]
    classes, numbers = encode_classes([None if partial and text in ("", str(UNLABELED)) else text for text in texts])
    return (classes, numbers) if len(classes) > 1 else ((), None)


def from_array(
    array: np.ndarray, labels: np.ndarray | None = None, *, name: str = "array", origin: str = "an array in memory",
    what: str = "The array", class_names: tuple[str, ...] = (), attribution: str = "",
    names: list[str] | None = None, notes: list[str] | None = None, partial: bool = False,
) -> Source:
    """Return a Source of an array of pictures (see as_pictures) and labels (see as_labels)."""
    pictures, scaling = as_pictures(np.asarray(array), what)
    classes, numbers = as_labels(labels, len(pictures), what, class_names, partial) if labels is not None else ((), None)

    def version() -> str:
        digest = hashlib.sha256(str(pictures.shape).encode())
        for i in range(0, len(pictures), 1024):
            digest.update(np.ascontiguousarray(pictures[i : i + 1024]).data)
        return "array:" + digest.hexdigest()

    return Source(
        name=name, origin=origin, names=names or [str(i) for i in range(len(pictures))],
        content=lambda index: pictures[index], version=version, classes=classes, labels=numbers, attribution=attribution,
        notes=(notes or []) + scaling, array=pictures,
    )


def read_idx(path: Path) -> np.ndarray:
    """Return the array of an IDX file, gzipped or not. Raises ValueError when it is damaged."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except PermissionError as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: it is damaged or unreachable; download it again.") from error
    if len(content) < 8 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or not 1 <= content[3] <= 4:
        raise ValueError(f"{path} is not an IDX file, or is damaged: download it again.")
    shape = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]].ljust(4 * content[3], b"\0"))
    values = np.frombuffer(content, np.uint8, offset=min(len(content), 4 + 4 * content[3]))
    dtype = np.dtype(IDX_TYPES[content[2]])
    if values.size != int(np.prod(shape, dtype=np.float64)) * dtype.itemsize:
        raise ValueError(f"{path} is truncated: its header states {shape[0]:,} entries, but it holds fewer; download it again.")
    return values.view(dtype).reshape(shape)


def idx_images(folder: Path) -> list[Path]:
    """Return the IDX files of pictures in a folder, the training set first."""
    found = [p for p in folder.iterdir() if IDX_IMAGES.search(p.name) and p.is_file() and not p.name.startswith(".")]
    return sorted(found, key=lambda p: (not p.name.lower().startswith("train"), p.name))


def idx_labels(images: Path) -> Path | None:
    """Return the labels file beside an IDX file of pictures, named as in MNIST; None if there is none."""
    plain = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    candidates = (images.with_name(plain + ending) for ending in ("", ".gz"))
    return next((p for p in candidates if p != images and p.is_file()), None)


def open_idx(path: Path, labels: Labels = True, partial: bool = False) -> Source:
    """Open an IDX file of pictures, or a folder with some. Raises ValueError when it cannot be used."""
    notes = []
    if path.is_dir():
        found = idx_images(path)
        path = found[0]
        if len(found) > 1:
            notes.append(f"Of {len(found)} IDX files of pictures, {printable(path.name)} is used; give the path of another to use that.")
    images = read_idx(path)
    if images.ndim < 3:
        raise ValueError(f"{path} holds labels, not pictures: give the images file beside it.")
    beside = idx_labels(path) if labels is True else labels or None
    if labels is True and beside is None:
        notes.append("There is no labels file beside it, so pictures have no labels.")
    values = None if not beside else _table_labels(beside, len(images)) if partial and _is_table(beside) else read_idx(beside)
    names = FASHION_CLASSES if "fashion" in str(path.resolve()).lower() else ()
    base = path.name.split("-")[0] if "-" in path.name else path.stem
    return from_array(
        images, values, what=str(path), partial=partial, class_names=names, notes=notes,
        name=short_name(f"{path.resolve().parent.name}-{base}"), origin=f"the IDX file {printable(path.resolve().name)}",
    )


def open_numpy(path: Path, labels: Labels = True, partial: bool = False) -> Source:
    """Open a .npy or .npz file of pictures, with labels of the .npz or of a given .npy. Raises ValueError if unusable."""
    found: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    try:
        if path.suffix.lower() == ".npy":
            images = np.load(path, allow_pickle=False, mmap_mode="c")  # copy-on-write: torch needs a writable array
        else:
            with np.load(path, allow_pickle=False) as content:
                images, found, classes = _from_npz({key: content[key] for key in content.files}, path)
    except ValueError as error:
        if "pickle" in str(error).lower() or "python object" in str(error).lower():
            raise ValueError(f"{path} holds Python objects, which are never loaded: save plain arrays.") from error
        raise error if str(error).startswith(str(path)) else ValueError(f"{path} is damaged: save it again.") from error
    except Exception as error:  # a damaged zip or header may raise anything
        raise ValueError(f"{path} cannot be read: it is damaged or unreachable; save it again.") from error
    if isinstance(labels, Path):
        found = _table_labels(labels, len(images)) if partial and _is_table(labels) else _labels_array(labels)
    return from_array(
        images, found if labels else None, what=str(path), class_names=classes, partial=partial, name=short_name(path.stem),
        origin=f"the array file {printable(path.resolve().name)}",
    )


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".json")


def _table_labels(path: Path, count: int) -> np.ndarray:
    """Return the classes of pictures in an array by a labels file, in which a picture's name is its number from 0; "" for none.

    Raises ValueError when it names none of the pictures.
    """
    try:
        table = read_labels(path.read_bytes(), printable(path.name), named=True)
    except OSError as error:
        raise ValueError(f"The labels file {path} cannot be read: {reason(error)}.") from error
    found = np.array([table.get(str(i), "") for i in range(count)])
    if not (found != "").any():
        raise ValueError(f"{printable(path.name)} labels none of the pictures: in an array a picture is named by its number, 0 to {count - 1:,}.")
    return found


def _labels_array(path: Path) -> np.ndarray:
    problem = f"The labels file {path} is not an array: pictures in an array need a .npy with one number or name per picture."
    try:
        found = np.load(path, allow_pickle=False)
    except PermissionError as error:
        raise ValueError(f"The labels file {path} cannot be read: {reason(error)}.") from error
    except Exception as error:  # np.load may raise anything for other files
        raise ValueError(problem) from error
    if not isinstance(found, np.ndarray):  # a .npz
        raise ValueError(problem)
    return found


def _from_npz(content: dict[str, np.ndarray], path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return (pictures, labels, class names) of a .npz, by their common keys, otherwise by the only array that fits."""
    images = next((content[k] for k in IMAGE_KEYS if k in content and content[k].ndim in (3, 4)), None)
    if images is None:
        fitting = [array for array in content.values() if array.ndim in (3, 4)]
        if len(fitting) != 1:
            raise ValueError(
                f"{path} has the arrays {', '.join(content) or '(none)'}: name the array of pictures images."
            )
        images = fitting[0]
    labels = next((content[k] for k in LABEL_KEYS if k in content and len(content[k].shape) in (1, 2)), None)
    names = next((content[k] for k in CLASS_KEYS if k in content and content[k].dtype.kind == "U"), np.array([]))
    return images, labels, tuple(printable(name) for name in names)
