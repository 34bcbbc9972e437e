"""A zip of pictures as a Source, read in memory: nothing is unpacked to disk, so paths in the zip cannot do harm."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from limner.core.text import printable
from limner.data.folder import ignored, is_text, kind, label_file, looks_like_picture, no_pictures
from limner.data.image import Damaged
from limner.data.labels import LABEL_FILES, MAX_LABEL_BYTES, Labels, Table
from limner.data.layout import ArrangeOptions, Files, arrange, as_source, common_folder
from limner.data.source import Rejected, Source, short_name

MAX_ENTRY_BYTES = 1 << 29  # of one entry, uncompressed, as its header states


def entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int = MAX_ENTRY_BYTES) -> bytes:
    """Return the bytes of one entry. Raises Damaged with the reason."""
    if info.flag_bits & 1:
        raise Damaged("encrypted: unpack the zip with its password first")
    if info.file_size > limit:
        raise Damaged(f"too large to unpack safely ({info.file_size >> 20:,} MiB)")
    try:
        with archive.open(info) as file:
            return file.read()
    except NotImplementedError as error:
        raise Damaged("compressed with a method that is not supported") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise Damaged("damaged inside the zip") from error


def open_zip(path: Path, options: ArrangeOptions) -> Source:
    """Open a zip of pictures, nested or not. Raises ValueError when it is damaged or holds no picture."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        why = "it cannot be read" if isinstance(error, PermissionError) else "it is damaged or not a zip"
        raise ValueError(f"The zip {path} cannot be opened: {why}; make or download it again.") from error
    bad: list[Rejected] = []
    others: Counter[str] = Counter()
    infos: dict[str, zipfile.ZipInfo] = {}
    tables: dict[str, zipfile.ZipInfo] = {}
    texts: dict[str, zipfile.ZipInfo] = {}
    for info in sorted(archive.infolist(), key=lambda i: i.filename):
        name = info.filename.replace("\\", "/").lstrip("/")
        if info.is_dir() or any(ignored(part) for part in name.split("/") if part not in ("", "..", ".")):
            continue
        what, why = kind(name)
        if is_text(name):
            texts[name] = info
        if what == "bare":
            try:
                what = "picture" if looks_like_picture(entry(archive, info)[:8]) else "other"
            except Damaged:
                what = "other"
        if what == "labels":
            tables[name] = info
        elif what == "other":
            others[PurePosixPath(printable(name)).suffix.lower() or "without ending"] += 1
        elif what != "picture":
            bad.append((name, why))
        elif info.file_size == 0 and not info.flag_bits & 1:
            bad.append((name, "empty file"))
        else:
            infos[name] = info
    if not infos:
        raise ValueError(no_pictures(f"The zip {path}", bad, others))
    top = _wrapper(list(infos))
    entries = list(infos.values())
    names = [name.removeprefix(top) for name in infos]

    def content(index: int) -> BinaryIO:
        return io.BytesIO(entry(archive, entries[index]))

    texts = {printable(name.removeprefix(top)): info for name, info in texts.items()}

    def text(name: str) -> bytes | None:
        try:
            return entry(archive, texts[name], MAX_LABEL_BYTES) if name in texts else None
        except Damaged:
            return None

    found = Files(
        [printable(name) for name in names], content,
        [f"{name}\0{info.file_size}\0{info.CRC}\n" for name, info in zip(names, entries, strict=True)],
    )  # fmt: skip
    return as_source(
        found, arrange(found, _table(archive, tables, options.labels), options), name=short_name(path.stem), version="zip",
        origin=f"the zip {printable(path.resolve().name)}", bad=bad, others=dict(others), text=text,
    )  # fmt: skip


def _wrapper(names: Sequence[str]) -> str:
    """Return the single folder that holds everything in the zip, such as "pets/"; "" if pictures lie at the top level."""
    top = common_folder(names).split("/", 1)[0]
    return f"{top}/" if top and all(name.count("/") > 1 for name in names) else ""


def _table(archive: zipfile.ZipFile, tables: dict[str, zipfile.ZipInfo], labels: Labels) -> Table | None:
    """Return the file of labels: the given one, otherwise the outermost one inside the zip."""
    if isinstance(labels, Path):
        return label_file(labels)
    order = sorted(tables, key=lambda n: (n.count("/"), LABEL_FILES.index(PurePosixPath(n).name.lower())))
    if not order or not labels:
        return None

    def content() -> bytes:
        try:
            return entry(archive, tables[order[0]], MAX_LABEL_BYTES)
        except Damaged as damage:
            raise ValueError(f"{printable(order[0])} cannot be read: {damage}.") from damage

    return PurePosixPath(order[0]).name, content
