"""How pictures in a folder or zip are arranged: class folders, splits for training and validation, a file of labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import numpy as np

from limner.core.text import counted, printable
from limner.data.image import opened, reason
from limner.data.labels import Labels, Table, matched, numbered, read_labels
from limner.data.source import Rejected, Source

ClassesFrom = Literal["auto", "parent", "top"]
CLASSES_FROM = ("auto", "parent", "top")
SPLITS = {  # name of a folder, lower case -> what its pictures are for
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What a caller asks of the arrangement."""

    labels: Labels = True               # the file that names classes; True: what lies with the pictures; False: no classes
    classes_from: ClassesFrom = "auto"  # parent: the folder that holds a picture; top: the outermost that differ
    splits: bool = True                 # whether auto holds the validation split out; else every picture is taken


@dataclass(frozen=True)
class Files:
    """The pictures found in one place."""

    names: Sequence[str]                # their relative names with "/", as they are printed
    content: Callable[[int], BinaryIO]  # raises OSError or Damaged
    marks: Sequence[str]                # one a picture: changes when the picture may have changed


@dataclass
class Arrangement:
    """Which pictures are trained on, which are held out, and their classes."""

    train: list[int]
    validation: list[int] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None             # int64, one for each of `train`
    validation_labels: np.ndarray | None = None  # the same for `validation`
    bad: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_major: bool = False                    # whether the classes hold the splits, and not the splits the classes


def common_folder(names: Sequence[str]) -> str:
    """The folders that all relative names lie in, such as "pets/images/", or ""."""
    if not names:
        return ""
    first, last = (one.split("/")[:-1] for one in (min(names, key=_folders), max(names, key=_folders)))
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return "".join(f"{part}/" for part in first[:shared])


def _folders(name: str) -> list[str]:
    return name.split("/")[:-1]


def tops(names: Sequence[str]) -> list[str]:
    """The outermost folder of each name below the folders that all of them share; "" for one that lies in none."""
    shared = len(common_folder(names))
    return [name[shared:].split("/", 1)[0] if "/" in name[shared:] else "" for name in names]


def arrange(files: Files, table: Table | None, stop_requested: Wish) -> Arrangement:
    """Find the splits and classes of pictures. table: a file of labels.

    What is wrong with a file that the person named in `stop_requested.labels` is an error; one that merely lies there is passed
    over. Raises ValueError in one sentence where `stop_requested.classes_from` finds no class.
    """
    found = Arrangement(list(range(len(files.names))))
    _drop_damaged_loose(files, found)
    splits = _split(files, found) if stop_requested.splits and stop_requested.classes_from == "auto" else {}
    if stop_requested.labels is not False and not (table and _by_table(files, found, table, stop_requested.labels)):
        _by_folders(files, found, stop_requested, splits)
    if splits:
        _name_splits(found, splits)
    return found


def _drop_damaged_loose(files: Files, found: Arrangement) -> None:
    """Pictures beside the subfolders cancel classes and splits; where all of them are damaged, they are left out instead."""
    where = tops([files.names[i] for i in found.train])
    loose = [i for i, top in zip(found.train, where, strict=True) if not top]
    if not loose or len(loose) == len(found.train):
        return
    bad = []
    for i in loose:
        if not (why := _damage(files, i)):
            return
        bad.append((files.names[i], why))
    found.bad += bad
    found.train = [i for i, top in zip(found.train, where, strict=True) if top]


def _damage(files: Files, i: int) -> str:
    try:
        with opened(files.content(i)) as image:
            image.load()
    except Exception as error:  # decoders raise nearly anything on damaged files
        return reason(error)
    return ""


def _are_splits(folders: Sequence[str]) -> bool:
    """Whether all folders are named as splits, and one of them is there to train on and one is not."""
    kinds = {SPLITS.get(folder.lower(), "") for folder in set(folders)}
    return "" not in kinds and "train" in kinds and len(kinds) > 1


def _split(files: Files, found: Arrangement) -> dict[str, int]:
    """Move the held-out split to `validation` where the outermost folders are splits (train/cat, test/cat), or each of
    them is a class that holds splits (cat/train, cat/test). Returns folder -> how many."""
    names = [files.names[i] for i in found.train]
    where = tops(names)
    if not _are_splits(where):
        shared = len(common_folder(names))
        where = [name[shared:].split("/")[1] if name.count("/", shared) > 1 else "" for name in names]
        if not _are_splits(where):
            return {}
        found.class_major = True
    kinds = {top: SPLITS[top.lower()] for top in where}
    held = "validation" if "validation" in kinds.values() else "test"
    rows = list(zip(found.train, where, strict=True))
    found.train = [i for i, top in rows if kinds[top] == "train"]
    found.validation = [i for i, top in rows if kinds[top] == held]
    return dict(Counter(where))


def _by_table(files: Files, found: Arrangement, table: Table, labels: Labels) -> bool:
    """Take the classes from a file of labels; False where it is of no use and nobody asked for it."""
    name, content = table
    rows = found.train + found.validation
    need = "it needs lines of file,label with the names of the pictures as they are"
    try:
        given = matched([files.names[i] for i in rows], read_labels(content(), name, named=labels is not True))
        have = [label for label in given if label is not None]
        if not have:
            raise ValueError(f"{name} labels none of the pictures: {need}.")
        if (kinds := len(set(have))) > max(1, len(have) // 2):
            raise ValueError(f"{name} has nearly as many labels as pictures ({kinds:,} for {len(have):,}): {need}.")
    except ValueError as error:
        if labels is not True:
            raise
        found.notes.append(f"{error} It is not used.")
        return False
    of = dict(zip(rows, given, strict=True))
    if len({of[i] for i in found.train} - {None}) < 2:
        found.notes.append(f"{name} knows one class only, so pictures carry no label.")
        return True
    found.bad += [(files.names[i], f"no label in {name}") for i in found.train if of[i] is None]
    found.train = [i for i in found.train if of[i] is not None]
    _number(found, {i: label for i, label in of.items() if label is not None})
    found.notes.append(f"Classes come from {name}.")
    return True


def _by_folders(files: Files, found: Arrangement, stop_requested: Wish, splits: dict[str, int]) -> None:
    """Take the classes from the folders' names."""
    of: dict[int, str] = {}
    for rows in (found.train, found.validation):
        names = [files.names[i] for i in rows]
        parents = [name.rsplit("/", 2)[-2] if "/" in name else "" for name in names]
        of |= zip(rows, parents if stop_requested.classes_from == "parent" else tops(names), strict=True)
    here = {of[i] for i in found.train}
    if stop_requested.classes_from != "auto":
        loose = next((files.names[i] for i in found.train if not of[i]), None)
        if loose is not None or len(here) < 2:
            what = f"{loose} lies in no folder" if loose is not None else f"all pictures lie in one, {here.pop()}"
            raise ValueError(f"--classes-from {stop_requested.classes_from} takes the names of folders as classes, but {what}: leave it out.")
        found.notes.append(f"Classes are the {'innermost' if stop_requested.classes_from == 'parent' else 'outermost'} folders.")
    elif "" in here:
        if len(here) > 1:
            found.notes.append(
                "Pictures lie both beside and inside subfolders, so the subfolders are not taken as classes: "
                "move the loose ones into a subfolder if you want classes."
            )
        return
    if len(here) > 1:
        _number(found, of)


def _number(found: Arrangement, of: dict[int, str]) -> None:
    """Number the classes of the training pictures; held-out pictures of other classes are left out."""
    found.classes, found.labels = numbered([of[i] for i in found.train])
    index = {name: k for k, name in enumerate(found.classes)}
    kept = [i for i in found.validation if of.get(i) in index]
    if len(kept) < len(found.validation):
        found.notes.append(
            f"{counted(len(found.validation) - len(kept), 'held-out picture is', 'held-out pictures are')} of no class that is "
            "trained on and left out."
        )
    found.validation = kept
    found.validation_labels = np.array([index[of[i]] for i in kept], np.int64)


def _name_splits(found: Arrangement, splits: dict[str, int]) -> None:
    """Say which split is used for what."""
    kinds = {top: SPLITS[top.lower()] for top in splits}
    held = "validation" if "validation" in kinds.values() else "test"

    def those(kind: str) -> str:
        return " and ".join(f"{top} ({counted(count, 'picture')})" for top, count in splits.items() if kinds[top] == kind)

    classes = f" of {len(found.classes):,} classes" if found.classes else ""
    spare = f", and {those('test')} left out" if held == "validation" and "test" in kinds.values() else ""
    hint = f"; --classes-from {'top' if found.class_major else 'parent'} trains on all" if found.classes else ""
    found.notes.insert(
        0,
        f"{len(set(kinds.values()))} splits{classes}: training on {those('train')}, validating on {those(held)}{spare}{hint}.",
    )


def as_source(
    files: Files, found: Arrangement, *, name: str, origin: str, mark: str, bad: list[Rejected], others: dict[str, int],
    notes: Sequence[str] = (),
) -> Source:
    """The Source of the pictures to train on, with that of those held out as its `validation`.

    mark: what stands before the pictures' own marks, such as the kind of place and its path.
    """  # fmt: skip

    def part(rows: list[int], labels: np.ndarray | None, **more: object) -> Source:
        def marked() -> str:
            text = mark + "\n" + "".join(files.marks[i] for i in rows)
            return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

        return Source(
            name=name, names=[files.names[i] for i in rows], content=lambda k: files.content(rows[k]), mark=marked,
            classes=found.classes if labels is not None else (), labels=labels, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    held = part(found.validation, found.validation_labels, origin=f"the held-out split of {origin}") if found.validation else None
    bad = [(printable(where), why) for where, why in bad + found.bad]
    return part(
        found.train, found.labels, origin=origin, bad=bad, others=others, notes=[*found.notes, *notes], validation=held
    )
