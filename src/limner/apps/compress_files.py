"""`limner compress` and `limner decompress`: a picture, a folder, a zip or an archive of compressed pictures."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from limner.apps.compress import Codec, Prepared, Progress, validate_effort, validate_quality
from limner.apps.pictures_out import (
    as_picture,
    check_apart,
    check_exists,
    check_no_overwrite,
    encoded,
    file_writer,
    goes_into_zip,
    is_single,
    open_many,
    originals,
    output_names,
    single_output,
)
from limner.coding.container import Item, safe_name
from limner.coding.entropy import Corrupt, check_installed
from limner.core.files import read_bytes, write_whole
from limner.core.text import counted, printable
from limner.data import Damaged
from limner.data.archive import entry
from limner.data.dataset import and_skipped
from limner.data.decode import suppress_warnings
from limner.data.folder import list_files
from limner.data.image import SUFFIXES, reason
from limner.data.source import Source

SUFFIX = ".limn"
MAX_BYTES = 2 << 30  # of a compressed file

Say = Callable[[str], None]


@dataclass
class Account:
    """What was compressed so far."""

    pictures: int = 0
    before: int = 0   # bytes
    after: int = 0
    pixels: int = 0
    bad: int = 0
    notes: dict[str, list[str]] = field(default_factory=dict)  # what is lost -> the names of the pictures

    def add(self, name: str, picture: Prepared, before: int) -> None:
        self.pictures += 1
        self.before += before
        self.pixels += picture.item.width * picture.item.height
        for note in picture.notes:
            self.notes.setdefault(note, []).append(name)

    def losses(self) -> Iterator[str]:
        """Yield a sentence on each thing that is lost: the first picture, and the number of the others."""
        for note, names in self.notes.items():
            others = f" and {counted(len(names) - 1, 'other picture')}: each" if len(names) > 1 else ""
            yield f"{printable(names[0])}{others} {note}."

    def sentence(self, out: Path) -> str:
        rate, ratio = self.after * 8 / self.pixels, self.before / max(1, self.after)
        verb = "are" if self.pictures > 1 else "is"
        smaller = f"{ratio:.1f} times smaller" if ratio >= 1 else f"{1 / ratio:.1f} times larger"
        return (
            f"{counted(self.pictures, 'compressed picture')} {verb} in {out}{and_skipped(self.bad)}: {self.after:,} bytes, "
            f"{rate:.3f} bits per pixel, {smaller} than before ({self.before:,} bytes)."
        )


@suppress_warnings()
def compress(
    model: Codec,
    source: Path,
    out: Path,
    quality: int | None = None,
    archive: bool = False,
    effort: int = 0,
    metadata: bool = True,
    progress: Progress | None = None,
    say: Say = print,
) -> str:
    """Compress a file, a folder or a zip. Returns a sentence with the sizes before and after.

    out: a .limn for a picture, or for many with `archive`; else a folder or a .zip for many. say: called with a sentence for each
    damaged picture, which is skipped. Raises ValueError when none could be compressed.
    """
    check_installed()  # as the options, before any picture is read
    quality, effort = validate_quality(quality), validate_effort(effort)
    account = Account()
    if is_single(source) and not archive:
        out = out / f"{source.stem}{SUFFIX}" if out.is_dir() or not out.suffix else out
        if out.suffix.lower() != SUFFIX:
            raise ValueError(f"A compressed picture is written as a {SUFFIX}, not as {out.name!r}.")
        check_no_overwrite([source], [out])
        picture = _prepared(model, source, metadata)
        content = model.compress_prepared(picture, quality, effort)
        write_whole(out, content)
        account.add(source.name, picture, source.stat().st_size)
        account.after = len(content)
    else:
        archive = archive or (out.suffix.lower() == SUFFIX and not out.is_dir())
        if out.is_dir() or not out.suffix:
            check_apart(source, out)
        pictures = open_many(source)
        account.bad = len(pictures.bad)
        for name, why in pictures.bad:
            say(f"Skipped {name}: {why}.")
        many = _archive if archive else _separately
        many(model, pictures, source, out, quality, effort, metadata, progress, say, account)
    for loss in account.losses():
        say(loss)
    return account.sentence(out)


def _prepared(model: Codec, source: Path, metadata: bool) -> Prepared:
    try:
        return model.prepare(as_picture(source), metadata)
    except (Damaged, Corrupt) as error:
        raise ValueError(f"{source} cannot be used: {error}.") from error


def _separately(
    model: Codec, pictures: Source, source: Path, out: Path, quality: int | None, effort: int, metadata: bool,
    progress: Progress | None, say: Say, account: Account,
) -> None:  # fmt: skip
    zipped = goes_into_zip(out, f"a folder, a .zip or with --archive a {SUFFIX}")
    names = _renamed(pictures.names, SUFFIX)
    check_no_overwrite(originals(source), [out, *(() if zipped else (out / name for name in names))])
    with ExitStack() as stack:
        write = file_writer(out, zipped, stack)
        for i, name in enumerate(pictures.names):
            if progress:
                progress(i, len(pictures))
            try:
                picture = model.prepare(pictures.open(i), metadata)
            except (Damaged, Corrupt, OSError) as error:
                say(f"Skipped {name}: {reason(error) if isinstance(error, OSError) else error}.")
                account.bad += 1
                continue
            content = model.compress_prepared(picture, quality, effort)
            write(names[i], content)
            account.add(name, picture, _size(pictures, i))
            account.after += len(content)
        _check_any(account, source)


def _archive(
    model: Codec, pictures: Source, source: Path, out: Path, quality: int | None, effort: int, metadata: bool,
    progress: Progress | None, say: Say, account: Account,
) -> None:  # fmt: skip
    out = out / f"{source.stem}{SUFFIX}" if out.is_dir() else out
    if out.suffix.lower() != SUFFIX:
        raise ValueError(f"An archive is written as a {SUFFIX}, not as {out.name!r}.")
    check_no_overwrite(originals(source), [out])
    items: list[Item] = []
    places: list[int] = []
    names = [name if safe_name(name) else new for name, new in zip(pictures.names, output_names(pictures.names), strict=True)]
    for i, name in enumerate(pictures.names):  # sizes and metadata stand before the first stream
        try:
            picture = model.prepare(pictures.open(i), metadata)
        except (Damaged, Corrupt, OSError) as error:
            say(f"Skipped {name}: {reason(error) if isinstance(error, OSError) else error}.")
            account.bad += 1
            continue
        account.add(name, picture, _size(pictures, i))
        items.append(replace(picture.item, name=names[i]))
        places.append(i)
    _check_any(account, source)
    order = sorted(range(len(items)), key=lambda k: items[k].name)  # neighbors share the beginnings of their names

    def again(k: int) -> Prepared:
        return model.prepare(pictures.open(places[order[k]]), metadata)

    try:
        content = model.write([items[k] for k in order], again, quality, effort, archive=True, progress=progress)
    except (Damaged, OSError) as error:
        raise ValueError(f"A picture of {source} changed while it was read: give the same command again.") from error
    write_whole(out, content)
    account.after = len(content)


def _check_any(account: Account, source: Path) -> None:
    if not account.pictures:
        raise ValueError(f"No picture of {source} could be compressed: all {account.bad:,} are damaged.")


def _size(pictures: Source, i: int) -> int:
    """Return the bytes of a picture's file; of an array, those of its values."""
    content = pictures.content(i)
    if isinstance(content, np.ndarray):
        return int(content.nbytes)
    with closing(content):
        return content.seek(0, io.SEEK_END)


def _renamed(names: Sequence[str], ending: str) -> list[str]:
    """Return names with another ending, unique also on file systems that ignore case, and within their folder."""
    taken: set[str] = set()
    found = []
    for name in output_names(names):
        path = PurePosixPath(name)
        stem = str(path.with_suffix("")) if path.suffix.lower() in (*SUFFIXES, SUFFIX) else name
        candidates = [stem + ending, name + ending, *(f"{stem}-{i}{ending}" for i in range(2, len(names) + 3))]
        found.append(next(new for new in candidates if new.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


# ---- decompression ---------------------------------------------------------------------------------------------------


@suppress_warnings()
def decompress(model: Codec, source: Path, out: Path, progress: Progress | None = None, say: Say = print) -> str:
    """Decompress a .limn, or all of a folder or a zip. Returns a sentence that names the output.

    out: a picture (.png, .webp and .tif without loss, .jpg) for one, or a folder for it; a folder or a .zip for many, which become .png. say: called with
    a sentence for each damaged picture, which is skipped. Raises ValueError when none could be decompressed.
    """
    check_installed()
    check_exists(source, f"a {SUFFIX}, or a folder or zip of them")
    if source.is_file() and source.suffix.lower() != ".zip":
        content = read_bytes(source, MAX_BYTES)
        try:
            file = model.open(content)
        except Corrupt as error:
            raise ValueError(f"{source} cannot be decompressed: {error}.") from error
        if not file.header.archive:
            out = single_output(out, f"{_stem(source.name)}.png")
            check_no_overwrite([source], [out])
            _, image = next(iter(model.images(file)))
            if isinstance(image, Corrupt):
                raise ValueError(f"{source} cannot be decompressed: {image}.") from image
            write_whole(out, encoded(image, out.suffix, lossless=True))
            return f"The picture is in {out}."
    zipped = goes_into_zip(out)
    if not zipped:
        check_apart(source, out)
    done = bad = 0
    taken: set[str] = set()
    with ExitStack() as stack:
        check_no_overwrite([source], [out])
        write = file_writer(out, zipped, stack)
        for prefix, name, found, total in _contents(source, stack):
            try:
                if isinstance(found, Corrupt):
                    raise found
                file = model.open(found)
            except Corrupt as error:
                say(f"Skipped {printable(name)}: {error}.")
                bad += 1
                continue
            folder = _stem(name) + "/" if file.header.archive and prefix else ""
            names = [folder + item.name if file.header.archive else _stem(name) for item in file.header.items]
            targets = dict(zip((item.name for item in file.header.items), _free(names, taken), strict=True))
            for item, image in model.images(file):
                if isinstance(image, Corrupt):
                    say(f"Skipped {printable(item.name or name)}: {image}.")
                    bad += 1
                else:
                    write(targets[item.name], encoded(image, ".png"))
                    done += 1
                if progress:
                    progress(done + bad, max(total, done + bad, len(names)))
        if not done:  # raised within the context, so that no empty .zip is left behind
            raise ValueError(f"No picture of {source} could be decompressed{and_skipped(bad)}.")
    return f"{counted(done, 'picture')} {'are' if done > 1 else 'is'} in {out}{and_skipped(bad)}."


def _stem(name: str) -> str:
    """Return a name without the ending of compressed files."""
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) and PurePosixPath(name).stem else name


def _free(names: Sequence[str], taken: set[str]) -> list[str]:
    """Return the names of the .png files of one compressed file, unique among all that are taken, which grows."""
    found = []
    for name in _renamed(names, ".png"):
        stem = name.removesuffix(".png")
        new = next(n for n in (name, *(f"{stem}-{i}.png" for i in range(2, len(taken) + 3))) if n.casefold() not in taken)
        taken.add(new.casefold())
        found.append(new)
    return found


def _contents(source: Path, stack: ExitStack) -> Iterator[tuple[bool, str, bytes | Corrupt, int]]:
    """Yield (whether it has company, name, content, number of files) of a file, a folder or a zip. Raises ValueError without any."""
    if source.is_dir():
        names = [name for name, _ in list_files(source)[0] if name.lower().endswith(SUFFIX)]

        def content(i: int) -> bytes:
            return read_bytes(source / names[i], MAX_BYTES)
    elif source.suffix.lower() == ".zip":
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{source} cannot be read: it is no zip, or damaged.") from error
        infos = [info for info in archive.infolist() if info.filename.lower().endswith(SUFFIX) and not info.is_dir()]
        names = [info.filename for info in infos]

        def content(i: int) -> bytes:
            return bytes(entry(archive, infos[i]))
    else:
        names = [source.name]

        def content(i: int) -> bytes:
            return read_bytes(source, MAX_BYTES)

    if not names:
        raise ValueError(f"{source} holds no {SUFFIX}: give what `limner compress` wrote.")
    for i, name in enumerate(names):
        try:
            found: bytes | Corrupt = content(i)
        except (ValueError, OSError) as error:
            found = Corrupt(str(error).rstrip(".") if isinstance(error, ValueError) else reason(error))
        yield len(names) > 1, name, found, len(names)
