"""The arrangement of pictures in a folder or zip: class folders, splits for training and validation, a labels file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import numpy as np

from limner.core.text import counted, printable
from limner.data.image import open_image, reason
from limner.data.labels import UNLABELED_FOLDERS, Labels, Table, encode_classes, match_labels, read_labels, unmatched
from limner.data.source import Rejected, Source, no_text

ClassesFrom = Literal["auto", "parent", "top"]
CLASSES_FROM = ("auto", "parent", "top")
SPLITS = {  # folder name in lower case -> use of its pictures
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class ArrangeOptions:
    """Options of `arrange`."""

    labels: Labels = True               # the labels file; True: the one that lies with the pictures; False: no classes
    classes_from: ClassesFrom = "auto"  # parent: the folder that holds a picture; top: the outermost folders that differ
    splits: bool = True                 # whether auto holds out the validation split; otherwise every picture is used
    partial: bool = False               # whether pictures without a class are kept, as UNLABELED; otherwise they are left out


@dataclass(frozen=True)
class Files:
    """Pictures found in one place."""

    names: Sequence[str]                # relative names with "/", printable
    content: Callable[[int], BinaryIO]  # raises OSError or Damaged
    versions: Sequence[str]             # per picture: changes when the picture may have changed


@dataclass
class Arrangement:
    """Indices of the training and held-out pictures, and their classes."""

    train: list[int]
    validation: list[int] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None             # int64, per entry of `train`
    validation_labels: np.ndarray | None = None  # int64, per entry of `validation`
    bad: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_major: bool = False                    # whether class folders hold split folders, rather than the reverse


def common_folder(names: Sequence[str]) -> str:
    """Return the folders that all relative names share, such as "pets/images/", or ""."""
    if not names:
        return ""
    first, last = (one.split("/")[:-1] for one in (min(names, key=_folders), max(names, key=_folders)))
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return "".join(f"{part}/" for part in first[:shared])


def _folders(name: str) -> list[str]:
    return name.split("/")[:-1]


def top_folders(names: Sequence[str]) -> list[str]:
    """Return the outermost folder of each name below the folders that all share; "" for a name without one."""
    shared = len(common_folder(names))
    return [name[shared:].split("/", 1)[0] if "/" in name[shared:] else "" for name in names]


def arrange(files: Files, table: Table | None, options: ArrangeOptions) -> Arrangement:
    """Determine the splits and classes of pictures. table: a labels file.

    Errors in a labels file are raised if the user gave it (`options.labels`); one that was found among the pictures is then
    ignored. Raises ValueError when `options.classes_from` finds no class.
    """
    found = Arrangement(list(range(len(files.names))))
    _drop_damaged_loose(files, found)
    beside = _unlabeled_folder(files, found) if options.partial else set()
    splits = _split(files, found, beside) if options.splits and options.classes_from == "auto" else {}
    if options.labels is not False and not (table and _by_table(files, found, table, options)):
        _by_folders(files, found, options, beside if splits else set())
    if splits:
        _name_splits(found, splits)
    return found


def _drop_damaged_loose(files: Files, found: Arrangement) -> None:
    """Leave out the pictures beside the subfolders if all are damaged; a usable one would disable classes and splits."""
    where = top_folders([files.names[i] for i in found.train])
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
        with open_image(files.content(i)) as image:
            image.load()
    except Exception as error:  # decoders may raise anything for damaged files
        return reason(error)
    return ""


def _are_splits(folders: Sequence[str]) -> bool:
    """Return whether all folders have names of splits, among them one for training and one not."""
    kinds = {SPLITS.get(folder.lower(), "") for folder in set(folders)}
    return "" not in kinds and "train" in kinds and len(kinds) > 1


def _unlabeled_folder(files: Files, found: Arrangement) -> set[int]:
    """Return the pictures of an outermost folder `unlabeled`."""
    where = top_folders([files.names[i] for i in found.train])
    return {i for i, top in zip(found.train, where, strict=True) if top.lower() in UNLABELED_FOLDERS}


def _split(files: Files, found: Arrangement, beside: set[int]) -> dict[str, int]:
    """Move the held-out split to `validation` if the outermost folders are splits (train/cat, test/cat), or all of them are
    classes that hold splits (cat/train, cat/test). Returns the number of pictures by folder.

    beside: pictures in a folder `unlabeled` beside these, which are trained on."""
    others = [i for i in found.train if i not in beside]
    names = [files.names[i] for i in others]
    where = top_folders(names)
    if not _are_splits(where):
        shared = len(common_folder(names))
        where = [name[shared:].split("/")[1] if name.count("/", shared) > 1 else "" for name in names]
        if not _are_splits(where):
            return {}
        found.class_major = True
    kinds = {top: SPLITS[top.lower()] for top in where}
    held_out = "validation" if "validation" in kinds.values() else "test"
    rows = list(zip(others, where, strict=True))
    found.train = sorted([*(i for i, top in rows if kinds[top] == "train"), *beside])
    found.validation = [i for i, top in rows if kinds[top] == held_out]
    return dict(Counter(where))


def _by_table(files: Files, found: Arrangement, table: Table, options: ArrangeOptions) -> bool:
    """Set the classes from a labels file; return False if it is unusable and was not given by the user."""
    name, content = table
    labels = options.labels
    rows = found.train + found.validation
    need = "it needs lines of file,label with the names of the pictures"
    try:
        entries = read_labels(content(), name, named=labels is not True)
        given = match_labels([files.names[i] for i in rows], entries)
        have = [label for label in given if label is not None]
        if not have:
            raise ValueError(f"{name} labels none of the pictures: {need}.")
        if (kinds := len(set(have))) > max(20 if options.partial else 1, len(have) // 2):
            raise ValueError(f"{name} has nearly as many labels as pictures ({kinds:,} for {len(have):,}): {need}.")
    except ValueError as error:
        if labels is not True:
            raise
        found.notes.append(f"{error} It is not used.")
        return False
    of = dict(zip(rows, given, strict=True))
    if len({of[i] for i in found.train} - {None}) < 2:
        found.notes.append(f"{name} has a single class, so pictures have no labels.")
        return True
    if options.partial:
        found.validation = [i for i in found.validation if of[i] is not None]
        if strange := unmatched(files.names, entries):
            found.notes.append(f"{name} labels {counted(len(strange), 'file')} that {'is' if len(strange) == 1 else 'are'} not here, such as {strange[0]}.")
    else:
        found.bad += [(files.names[i], f"no label in {name}") for i in found.train if of[i] is None]
        found.train = [i for i in found.train if of[i] is not None]
    _number(found, of)
    found.notes.append(f"Classes come from {name}.")
    return True


def _by_folders(files: Files, found: Arrangement, options: ArrangeOptions, beside: set[int]) -> None:
    """Set the classes from the names of folders. beside: pictures without a class in a folder beside splits."""
    of = dict.fromkeys(beside, UNLABELED_FOLDERS[0])
    for rows in ([i for i in found.train if i not in beside], found.validation):
        names = [files.names[i] for i in rows]
        parents = [name.rsplit("/", 2)[-2] if "/" in name else "" for name in names]
        of |= zip(rows, parents if options.classes_from == "parent" else top_folders(names), strict=True)
    unlabeled = {i for i, folder in of.items() if options.partial and folder.lower() in ("", *UNLABELED_FOLDERS)}
    here = {of[i] for i in found.train if i not in unlabeled}
    if options.classes_from != "auto":
        loose = next((files.names[i] for i in found.train if not of[i] and i not in unlabeled), None)
        if loose is not None or len(here) < 2:
            what = f"{loose} lies in no folder" if loose is not None else f"all pictures lie in one, {', '.join(here) or 'unlabeled'}"
            raise ValueError(f"--classes-from {options.classes_from} takes the names of folders as classes, but {what}: leave it out.")
        found.notes.append(f"Classes are the {'innermost' if options.classes_from == 'parent' else 'outermost'} folders.")
    elif "" in here:
        if len(here) > 1:
            found.notes.append(
                "Pictures lie both beside and inside subfolders, so the subfolders are not used as classes: "
                "move the others into a subfolder if you want classes."
            )
        return
    if len(here) > 1:
        found.validation = [i for i in found.validation if i not in unlabeled]
        _number(found, {i: None if i in unlabeled else folder for i, folder in of.items()})


def _number(found: Arrangement, of: Mapping[int, str | None]) -> None:
    """Number the classes of the training pictures, None for an unknown one; leave out held-out pictures of no class or another."""
    found.classes, found.labels = encode_classes([of[i] for i in found.train])
    index = {name: k for k, name in enumerate(found.classes)}
    kept = [i for i in found.validation if of[i] in index]
    if len(kept) < len(found.validation):
        found.notes.append(
            f"{counted(len(found.validation) - len(kept), 'held-out picture has', 'held-out pictures have')} a class that is not "
            "trained on, and left out."
        )
    found.validation = kept
    found.validation_labels = np.array([index[str(of[i])] for i in kept], np.int64)


def _name_splits(found: Arrangement, splits: dict[str, int]) -> None:
    """Add a note that states the use of each split."""
    kinds = {top: SPLITS[top.lower()] for top in splits}
    held_out = "validation" if "validation" in kinds.values() else "test"

    def those(kind: str) -> str:
        return " and ".join(f"{top} ({counted(count, 'picture')})" for top, count in splits.items() if kinds[top] == kind)

    classes = f" of {len(found.classes):,} classes" if found.classes else ""
    spare = f", and {those('test')} left out" if held_out == "validation" and "test" in kinds.values() else ""
    hint = f"; --classes-from {'top' if found.class_major else 'parent'} trains on all" if found.classes else ""
    found.notes.insert(
        0,
        f"{len(set(kinds.values()))} splits{classes}: training on {those('train')}, validating on {those(held_out)}{spare}{hint}.",
    )


def as_source(
    files: Files, found: Arrangement, *, name: str, origin: str, version: str, bad: list[Rejected], others: dict[str, int],
    notes: Sequence[str] = (), text: Callable[[str], bytes | None] = no_text,
) -> Source:
    """Return the Source of the training pictures, with the Source of the held-out ones as its `validation`.

    version: prefix of the pictures' versions, such as the kind of place and its path. text: as of a Source.
    """  # fmt: skip

    def part(rows: list[int], labels: np.ndarray | None, **more: object) -> Source:
        def digest() -> str:
            text = version + "\n" + "".join(files.versions[i] for i in rows)
            return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

        return Source(
            name=name, names=[files.names[i] for i in rows], content=lambda k: files.content(rows[k]), version=digest,
            classes=found.classes if labels is not None else (), labels=labels, text=text, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    held_out = part(found.validation, found.validation_labels, origin=f"the held-out split of {origin}") if found.validation else None
    bad = [(printable(where), why) for where, why in bad + found.bad]
    return part(
        found.train, found.labels, origin=origin, bad=bad, others=others, notes=[*found.notes, *notes], validation=held_out
    )
