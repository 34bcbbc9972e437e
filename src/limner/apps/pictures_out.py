"""One picture, a folder or a zip in; the same tree out: for every command that writes a picture for each picture."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from limner.core.files import lies_in, write_error, write_whole, writing
from limner.core.images import MODES, WHITE, grid, png, to_pil, write_png
from limner.core.lettering import drawable, fitted, write
from limner.core.text import printable
from limner.data import Damaged, Source, open_source
from limner.data.dataset import and_skipped
from limner.data.decode import suppress_warnings
from limner.data.folder import kind, list_files
from limner.data.image import DESPITE_NAME, SUFFIXES, convert_channels, eight_bit, open_image, reason, upright
from limner.data.open import expand_path, missing
from limner.data.samples import SAMPLES

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
QUALITY = 95  # of JPEG
MAX_SHEET_PICTURES = 8  # on a before/after sheet
MAX_JPEG_EXIF = 65_533  # bytes that a JPEG segment holds
SHEET_SIDE = 256  # pixels of a picture on it, at most
LETTERS, LINE = 14, 22  # pixels: size of the names on it, and height of their line
Progress = Callable[[int, int], None]  # (done, total)
Say = Callable[[str], None]
Writer = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Words:
    """How messages name what is done to a picture: "translated", "a translation"."""

    done: str
    result: str


@dataclass(frozen=True)
class Made:
    """What was made of a picture: the bytes of its file, and the pair of pictures for the sheet."""

    content: bytes
    before: Image.Image
    after: Image.Image


Make = Callable[[Image.Image, str, str, Progress | None], Made]
"""(opened picture, its name, suffix of the file to write, progress) -> what is written. Raises Damaged to skip the picture."""


def as_picture(image: Image.Image | np.ndarray | str | Path) -> Image.Image:
    """Return a file, a Pillow image or uint8 [C,H,W] as a Pillow image. Raises ValueError when it cannot be read."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in MODES:
            raise ValueError(
                f"A picture as an array is uint8 [C,H,W] with 1, 3 or 4 channels, not {image.dtype} {image.shape}: "
                "transpose it, or give the Pillow image or the file."
            )
        return to_pil(image)
    if isinstance(image, Image.Image):
        return image
    opened = open_file(Path(image))
    try:
        opened.load()
    except Exception as error:  # decoders may raise anything for damaged files
        raise unusable(Path(image), error) from error
    return opened


def open_file(path: Path) -> Image.Image:
    """Open a picture file: its header is read, no pixels. Raises ValueError when it is no picture."""
    try:
        return open_image(io.BytesIO(path.read_bytes()))
    except (Damaged, OSError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: BaseException) -> ValueError:
    """Return the error for a single picture that cannot be used."""
    why = reason(error) if path.suffix.lower() in SUFFIXES else reason(error).removesuffix(DESPITE_NAME)
    return ValueError(f"{path} cannot be used: {why}.")


def write_all(
    source: Path,
    out: Path,
    make: Make,
    words: Words,
    sheet: Path | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> str:
    """Write what `make` makes of a file, a folder or a zip; names are kept. Returns a sentence that names the output.

    out: a file for a file; a folder or a .zip for many. sheet: a PNG of pictures above what was made of them. progress: for
    one picture passed on to `make`; for many called with (done, total) pictures. say: called with a sentence for each damaged
    picture, which is skipped. Originals are never overwritten. Raises ValueError when nothing could be made.
    """
    with suppress_warnings():
        return _write_all(source, out, make, words, sheet, progress, say)


def _write_all(
    source: Path, out: Path, make: Make, words: Words, sheet: Path | None, progress: Progress | None, say: Say
) -> str:  # fmt: skip
    if sheet:
        png(sheet)  # before anything is made
    shown: list[tuple[str, Image.Image, Image.Image]] = []

    def show(name: str, made: Made) -> None:
        if sheet and len(shown) < MAX_SHEET_PICTURES:  # small copies: large pictures are not kept in memory
            shown.append((PurePosixPath(name).name, _small(made.before), _small(made.after)))

    if is_single(source):
        out = single_output(out, source.name)
        before = open_file(source)
        check_no_overwrite([source], [out], sheet, words.result)
        try:
            made = make(before, source.name, out.suffix, progress)
        except Damaged as error:
            raise unusable(source, error) from error
        write_whole(out, made.content)
        show(source.name, made)
        done, bad = 1, []
    else:
        pictures = open_many(source)
        zipped = goes_into_zip(out)
        if not zipped:
            check_apart(source, out)
        names = output_names(pictures.names)
        check_no_overwrite(originals(source), [out, *(() if zipped else (out / name for name in names))], sheet, words.result)
        done, bad = 0, list(pictures.bad)
        for name, why in bad:
            say(f"Skipped {name}: {why}.")
        with ExitStack() as stack:
            write = file_writer(out, zipped, stack)
            for i, name in enumerate(pictures.names):
                if progress and i:
                    progress(i, len(pictures))
                try:
                    made = make(pictures.open(i), name, PurePosixPath(names[i]).suffix, None)
                except (Damaged, OSError) as error:
                    bad.append((name, reason(error)))
                    say(f"Skipped {name}: {bad[-1][1]}.")
                    continue
                write(names[i], made.content)
                done += 1
                show(name, made)
            if progress:
                progress(len(pictures), len(pictures))
            if not done:  # raised within the context, so that no empty .zip is left behind
                raise ValueError(
                    f"No picture of {source} could be {words.done}: {len(bad):,} cannot be used, such as {bad[0][0]} ({bad[0][1]})."
                )
    if sheet:
        write_png(sheet, before_after(shown))
    return f"{done:,} {words.done} picture{'s are' if done > 1 else ' is'} in {out}{and_skipped(len(bad))}."


def is_single(source: Path) -> bool:
    """Return whether a source is the file of one picture, rather than a folder, a zip or an array of many."""
    return source.is_file() and source.suffix.lower() not in (".zip", ".npy", ".npz")


def open_many(source: Path) -> Source:
    """Return the pictures of a folder, a zip or arrays. Raises ValueError when there are none, or nothing is there."""
    check_exists(source)
    return open_source(source, labels=False, splits=False)


def check_exists(source: Path, kinds: str = "a picture, a folder or a zip") -> None:
    """Raise ValueError unless something is at `source`, or it names a sample. kinds: what may be given."""
    text = str(source)
    if text in SAMPLES or text.startswith("sample:"):
        return
    path = expand_path(source)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(missing(text, path, f"give {kinds}.")) from None
    except OSError:  # reported where it is opened
        pass


def check_apart(source: Path, out: Path) -> None:
    """Raise ValueError when the folder `out` is the folder `source` or lies in it: the next run would take results as input."""
    if source.is_dir() and lies_in(out, source):
        where = "is" if _identity(out) == _identity(source) else "lies in"
        raise ValueError(f"{out} {where} the folder of the originals: choose another place to write to.")


def single_output(out: Path, name: str) -> Path:
    """Return the file that is written for one picture: `out`, or in the folder `out` one of the picture's name.

    Raises ValueError for a suffix of a format that cannot be written.
    """
    if out.is_dir() or not out.suffix:
        return out / output_names([name])[0]
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"A picture is written as .png, .webp, .tif or .jpg, not as {out.name!r}.")
    return out


def goes_into_zip(out: Path, places: str = "a folder or a .zip") -> bool:
    """Return whether many pictures are written into a .zip, and not into a folder. Raises ValueError for neither of them."""
    zipped = out.suffix.lower() == ".zip" and not out.is_dir()
    if not zipped and not out.is_dir() and (out.suffix or out.is_file()):
        raise ValueError(f"Many pictures go into {places}, not into {out.name!r}.")
    return zipped


def originals(source: Path) -> list[Path]:
    """Return the files of a source, which must not be overwritten."""
    return [source / name for name, _ in list_files(source)[0] if kind(name)[0] != "other"] if source.is_dir() else [source]


def _small(image: Image.Image) -> Image.Image:
    """Return a copy of at most SHEET_SIDE pixels a side."""
    return ImageOps.contain(upright(image), (SHEET_SIDE, SHEET_SIDE)) if max(image.size) > SHEET_SIDE else image.copy()


def check_no_overwrite(
    originals: Iterable[Path], targets: Sequence[Path], sheet: Path | None = None, result: str = "an output"
) -> None:
    """Raise ValueError when a file to write would replace an original, or the sheet another output, which `result` names."""
    kept = {_identity(path) for path in originals}
    for path in (*targets, *([sheet] if sheet else [])):
        if _identity(path) in kept:
            raise ValueError(f"{path} would overwrite an original: choose another place to write to.")
    if sheet and _identity(sheet) in {_identity(path) for path in targets}:
        raise ValueError(f"The sheet {sheet} would replace {result}: choose another name for it.")


def _identity(path: Path) -> object:
    """Return a value that is equal for all names of one file, whether or not it exists."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def output_names(names: Sequence[str]) -> list[str]:
    """Return the names of the files to write: those of their pictures, with .png if the format cannot be written.

    They are unique, also on file systems that ignore case, and stay within the folder or zip.
    """
    inner = ["/".join(_without_drive(part) for part in PurePosixPath(name).parts if part.strip("./")) for name in names]
    taken = {str(folder).casefold() for name in inner for folder in PurePosixPath(name).parents}  # names of folders
    found: dict[int, str] = {}
    for i, name in enumerate(inner):  # names that can be kept take precedence over those that must change
        if name == names[i] and name.casefold() not in taken and PurePosixPath(name).suffix.lower() in FORMATS:
            taken.add(name.casefold())
            found[i] = name
    for i, name in enumerate(inner):
        if i not in found:
            found[i] = next(new for new in _new_names(name) if new.casefold() not in taken)
            taken.add(found[i].casefold())
    return [found[i] for i in range(len(names))]


def _without_drive(part: str) -> str:
    """Return a part of a path without a Windows drive: there `C:` in front of any part leads out of the folder."""
    return part.replace(":", "") if PureWindowsPath(part).drive else part


def _new_names(name: str) -> Iterator[str]:
    """Yield candidates for the name of an output, the best first."""
    path = PurePosixPath(name)
    is_format = path.suffix.lower() in SUFFIXES  # a dot may also be part of the name
    ending = path.suffix if path.suffix.lower() in FORMATS else ".png"
    stem = str(path.with_suffix("")) if is_format else name
    yield stem + ending
    if ending != path.suffix:
        yield name + ending
    yield from (f"{stem}-{i}{ending}" for i in count(2))


def file_writer(out: Path, zipped: bool, stack: ExitStack) -> Writer:
    """Return a function that writes a named file into the .zip or folder `out`."""
    if zipped:
        archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(writing(out)), "w"))
        return archive.writestr

    def write(name: str, content: bytes) -> None:
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, path) from error
        write_whole(path, content)

    return write


def encoded(image: Image.Image, ending: str, quality: int = QUALITY, lossless: bool = False) -> bytes:
    """Return a picture as the bytes of a file with that suffix. Raises ValueError for a picture too large for the format.

    Transparency is blended with white in JPEG, which has none, and gray of 16 bits is kept in PNG and TIFF only. The picture's
    ICC profile, EXIF and resolution (in `info`) are written. quality: of JPEG and WebP, 1 to 100. lossless: of WebP.
    """
    form = FORMATS[ending.lower()]
    kept = {name: image.info[name] for name in ("icc_profile", "exif", "dpi") if image.info.get(name)}
    if form in ("JPEG", "WEBP") and image.mode.startswith("I"):
        image = eight_bit(image)
    if form == "JPEG" and image.mode in ("LA", "RGBA"):
        image = convert_channels(image.convert("RGBA"), 1 if image.mode == "LA" else 3, WHITE)
    if form == "JPEG" and len(kept.get("exif", b"")) > MAX_JPEG_EXIF:
        del kept["exif"]
    if form == "TIFF" and "exif" in kept:
        exif = Image.Exif()
        exif.load(kept["exif"])
        kept["exif"] = exif
    webp = {"lossless": True, "exact": True} if lossless else {"quality": quality}
    options = {"JPEG": {"quality": quality}, "WEBP": webp}.get(form, {})
    buffer = io.BytesIO()
    try:
        image.save(buffer, form, **options, **kept)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"A picture of {image.width}x{image.height} cannot be written as {form} ({error}): choose .png or .tif."
        ) from error
    return buffer.getvalue()


def before_after(shown: Sequence[tuple[str, Image.Image, Image.Image]]) -> np.ndarray:
    """Return a sheet uint8 [3,H,W] of (name, picture, result): a row of pictures, each fitted into a square of 64 to 256 pixels,
    above the results, and the names below."""
    names, *rows = zip(*shown, strict=True)
    side = min(SHEET_SIDE, max(64, *(max(before.size) for before in rows[0])))
    cells = []
    for row in rows:
        for image in row:
            flat = convert_channels(upright(image), 3, WHITE)
            cells.append(np.asarray(ImageOps.pad(flat, (side, side), color=WHITE)).transpose(2, 0, 1))
    return _captioned(grid(np.stack(cells), columns=len(shown)), names)


def _captioned(sheet: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return a sheet uint8 [3,H,W] with a line of names below, each centered under its column."""
    _, height, width = sheet.shape
    image = Image.new("RGB", (width, height + LINE), WHITE)
    image.paste(to_pil(sheet))
    draw, column = ImageDraw.Draw(image), width / len(names)
    for i, name in enumerate(names):
        text = fitted(drawable(printable(name), f"#{i + 1}", LETTERS), column - 4, LETTERS)
        write(draw, ((i + 0.5) * column, height + LINE / 2), text, LETTERS, "mm")
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
