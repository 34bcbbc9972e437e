"""The container of compressed pictures: one picture a file, or an archive of many that share a header.

    "LIM"  version  flags  fingerprint (4 bytes)  quality                         10 bytes
    a picture:   width  height  form  [ICC profile]  [EXIF]                       each of the two: its length, deflated bytes
    an archive:  length of the directory, deflated: names, sizes, forms, and each different ICC profile and EXIF once
    then, group by group:  [length of the transparency, transparency, CRC-32]  length, stream, length, stream ...

Numbers are unsigned LEB128; the last stream has no length, it goes to the end of the file. A group is one picture, or pictures of
one size that are coded together (in an archive); a picture of more than TILE pixels a side is coded in tiles, a stream each.
The CRC-32 of a stream lies inside of it (`coding.entropy`) and covers the whole header and the stream's number as well, so that a
stream of another file or place is noticed too.

Every number is checked against its limit, and every length against the bytes that are there, before anything is allocated.
What is allocated for the streams of a file is bounded by its bytes, not by the sizes that its header states.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from limner.coding.entropy import Corrupt

MAGIC, VERSION = b"LIM", 1
ARCHIVE, ICC, EXIF = 1, 2, 4           # flags
FORMS = ("L", "RGB", "RGBA", "RGB+A")  # Pillow's mode of a picture; RGB+A: its transparency is stored beside the codec's streams
TILE = 1024                            # pixels, a multiple of every codec's
MAX_PIXELS = 178_000_000               # of a picture, as in `data.image`
MAX_SIDE = 1 << 20                     # pixels
MAX_PICTURES = 100_000                 # of an archive
MAX_METADATA = 4 << 20                 # bytes of an ICC profile or of EXIF data
MAX_DIRECTORY = 32 << 20               # bytes of an archive's directory, inflated
MAX_NAME = 1024                        # bytes of a name
TRUNCATED = "it is truncated: the file ends too early"
FOREIGN = "it was compressed with another model: decompress it with the run that compressed it"


class Tile(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is known of a picture before it is decoded. name: in an archive, with / between folders."""

    width: int
    height: int
    form: str
    icc: bytes = b""
    exif: bytes = b""
    name: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE and self.width * self.height <= MAX_PIXELS):
            raise Corrupt(f"its size of {self.width}x{self.height} pixels is beyond the limit of {MAX_PIXELS // 1_000_000} million")
        if self.form not in FORMS:
            raise Corrupt(f"its kind of picture, {self.form}, is unknown")
        if max(len(self.icc), len(self.exif)) > MAX_METADATA:
            raise Corrupt(f"its ICC profile or EXIF data has more than {MAX_METADATA >> 20} MiB")

    @property
    def tile_count(self) -> int:
        """The number of `tiles`."""
        return -(-self.height // TILE) * -(-self.width // TILE)

    def tiles(self) -> list[Tile]:
        """Return the parts that are coded separately, row by row."""
        return [
            Tile(top, left, min(TILE, self.height - top), min(TILE, self.width - left))
            for top in range(0, self.height, TILE)
            for left in range(0, self.width, TILE)
        ]


@dataclass(frozen=True)
class Header:
    """fingerprint: of the model, 4 bytes. quality: 0 to 100."""

    fingerprint: bytes
    quality: int
    items: Sequence[Item]
    archive: bool = False

    @cached_property
    def groups(self) -> list[list[int]]:
        """The pictures by number, in the order of their streams: those of one group have one size and are coded together."""
        if not self.archive:
            return [[0]]
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, item in enumerate(self.items):
            by_size.setdefault((item.height, item.width), []).append(i)
        groups = []
        for (height, width), numbers in by_size.items():
            area = (height + -height % 64) * (width + -width % 64)
            many = 1 if max(height, width) > TILE else TILE**2 // area  # one in tiles is coded by itself
            groups += [numbers[k : k + many] for k in range(0, len(numbers), many)]
        return groups

    def to_bytes(self) -> bytes:
        flags = ARCHIVE * self.archive
        if self.archive:
            body = zlib.compress(_directory(self.items), 9)
            body = varint(len(body)) + body
        else:
            item = self.items[0]
            flags |= ICC * bool(item.icc) | EXIF * bool(item.exif)
            body = varint(item.width) + varint(item.height) + bytes([FORMS.index(item.form)])
            for extra in (zlib.compress(data, 9) for data in (item.icc, item.exif) if data):
                body += varint(len(extra)) + extra
        return MAGIC + bytes([VERSION, flags]) + self.fingerprint + bytes([self.quality]) + body


@dataclass
class Group:
    """The content of a group. streams: one for each tile, fewer where the file is truncated. alpha: its transparency, None where
    that is missing or damaged."""

    streams: list[bytes]
    alpha: bytes | None = None


@dataclass
class File:
    """A container in parts."""

    header: Header
    groups: list[Group] = field(default_factory=list)
    check: int = 0  # CRC-32 of the header's bytes

    def context(self, group: int, tile: int = 0) -> bytes:
        """Return what the check of a stream covers beside its values."""
        return self.check.to_bytes(4, "little") + varint(group) + varint(tile)

    def has_alpha(self, group: int) -> bool:
        return any(self.header.items[i].form == "RGB+A" for i in self.header.groups[group])


def write(header: Header, groups: Sequence[Group]) -> bytes:
    """Return the bytes of a container. The streams were coded with the contexts of `start(header)`."""
    file, parts = start(header), [header.to_bytes()]
    for number, group in enumerate(groups):
        if file.has_alpha(number):
            assert group.alpha is not None
            check = zlib.crc32(group.alpha, zlib.crc32(file.context(number)))
            parts += [varint(len(group.alpha)), group.alpha, check.to_bytes(4, "little")]
        for stream in group.streams:
            parts += [varint(len(stream)), stream]
    del parts[-2]
    return b"".join(parts)


def start(header: Header) -> File:
    """Return a container without streams, for its contexts. Raises ValueError for an archive whose directory is too large."""
    if header.archive and len(_directory(header.items)) > MAX_DIRECTORY:
        raise ValueError(
            f"The names, ICC profiles and EXIF data of these pictures exceed the {MAX_DIRECTORY >> 20} MiB of an archive: leave the "
            "metadata out, or make several archives."
        )
    return File(header, check=zlib.crc32(header.to_bytes()))


def read(content: bytes, fingerprint: bytes | None = None) -> File:
    """Return the parts of a container. fingerprint: of the model at hand.

    Raises Corrupt for what is no container, has another version, was written by another model, exceeds a limit or is damaged;
    the pictures of a truncated archive that are there can still be read.
    """
    source = _Reader(content)
    if content[:3] != MAGIC[: len(content)] or not content:
        raise Corrupt("it is not a picture that `limner compress` wrote")
    version, flags = source.take(4)[3], source.take(1)[0]
    if version > VERSION:
        raise Corrupt("it was compressed by a newer Limner: update with `pip install -U limner`")
    if version < VERSION or flags & ~(ARCHIVE | ICC | EXIF) or (flags & ARCHIVE and flags != ARCHIVE):
        raise Corrupt("its header is damaged")
    found, quality = source.take(4), source.take(1)[0]
    if fingerprint is not None and found != fingerprint:
        raise Corrupt(FOREIGN)
    if quality > 100:
        raise Corrupt("its header is damaged")
    if flags & ARCHIVE:
        items = _read_directory(_inflate(source.block(), MAX_DIRECTORY))
    else:
        width, height, form = source.number(MAX_PIXELS), source.number(MAX_PIXELS), source.take(1)[0]
        icc, exif = (
            _inflate(source.block(), MAX_METADATA) if flags & flag else b"" for flag in (ICC, EXIF)
        )
        items = [Item(width=width, height=height, form=FORMS[form] if form < len(FORMS) else str(form), icc=icc, exif=exif)]
    header = Header(found, quality, items, bool(flags & ARCHIVE))
    file = File(header, check=zlib.crc32(content[: source.position]))
    file.groups = [Group([]) for _ in header.groups]
    try:
        for number, group in enumerate(file.groups):
            _read_group(source, file, number, group)
    except Corrupt:  # truncated: the groups before can be decoded
        pass
    return file


def _read_group(source: _Reader, file: File, number: int, group: Group) -> None:
    if file.has_alpha(number):
        alpha = source.block()
        if source.take(4) == zlib.crc32(alpha, zlib.crc32(file.context(number))).to_bytes(4, "little"):
            group.alpha = alpha
    tiles = file.header.items[file.header.groups[number][0]].tile_count
    for i in range(tiles):
        last = number == len(file.groups) - 1 and i == tiles - 1
        group.streams.append(source.rest() if last else source.block())


# ---- the directory ---------------------------------------------------------------------------------------------------


def safe_name(name: str) -> bool:
    """Return whether a name stays below the folder that it is written to, on every system."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which no file system of another machine takes
        return False
    return (
        0 < length <= MAX_NAME
        and not any(ord(mark) < 32 or ord(mark) == 127 for mark in name)
        and not any(mark in name for mark in '\\:*?"<>|')
        and all(part.strip(". ") for part in name.split("/"))
    )


def _directory(items: Sequence[Item]) -> bytes:
    names = [item.name.encode() for item in items]
    shared = [_common(a, b) for a, b in zip([b"", *names], names, strict=False)]
    extras = list(dict.fromkeys(data for item in items for data in (item.icc, item.exif) if data))
    place = {b"": 0, **{data: i for i, data in enumerate(extras, 1)}}
    columns = [
        shared,
        [item.width for item in items],
        [item.height for item in items],
        [FORMS.index(item.form) for item in items],
        [place[item.icc] for item in items],
        [place[item.exif] for item in items],
    ]
    body = [varint(len(items)), varint(len(extras)), *(varint(value) for column in columns for value in column)]
    body += [part for name, n in zip(names, shared, strict=True) for part in (name[n:], b"\0")]
    body += [part for data in extras for part in (varint(len(data)), data)]
    return b"".join(body)


def _read_directory(content: bytes) -> list[Item]:
    source = _Reader(content)
    count = source.number(MAX_PICTURES)
    if count < 1:
        raise Corrupt("its directory is damaged")
    number_of_extras = source.number(2 * count)
    if count * 6 > len(content):
        raise Corrupt("its directory is damaged")
    limits = (MAX_NAME, MAX_PIXELS, MAX_PIXELS, len(FORMS) - 1, number_of_extras, number_of_extras)
    shared, widths, heights, forms, icc, exif = ([source.number(limit) for _ in range(count)] for limit in limits)
    names, previous, total = [], b"", 0
    for n in shared:
        previous = previous[:n] + source.until_zero()
        total += len(previous)
        if total > MAX_DIRECTORY:
            raise Corrupt("its directory is damaged, or exceeds its limit")
        names.append(previous.decode("utf-8", "replace"))
        if not safe_name(names[-1]):
            raise Corrupt("a name in it leads out of the folder, or is none: nothing is written")
    extras = [b"", *(source.block() for _ in range(number_of_extras))]
    if len(set(names)) < count or source.rest():
        raise Corrupt("its directory is damaged")
    return [
        Item(width=w, height=h, form=FORMS[f], icc=extras[i], exif=extras[e], name=name)
        for w, h, f, i, e, name in zip(widths, heights, forms, icc, exif, names, strict=True)
    ]


def _common(a: bytes, b: bytes) -> int:
    """Return the length of the common beginning of two names."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


# ---- bytes -----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """Return a number >= 0 as unsigned LEB128: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Reads bytes from the front. Raises Corrupt at the end of them."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def take(self, n: int) -> bytes:
        if self.position + n > len(self.content):
            raise Corrupt(TRUNCATED)
        self.position += n
        return self.content[self.position - n : self.position]

    def rest(self) -> bytes:
        return self.take(len(self.content) - self.position)

    def block(self) -> bytes:
        """Read bytes that stand behind their length."""
        return self.take(self.number(1 << 34))

    def number(self, limit: int) -> int:
        """Read a varint. Raises Corrupt when it exceeds the limit."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if value > limit or shift > 35:
                raise Corrupt("a number in its header exceeds its limit")
            if byte < 0x80:
                return value

    def until_zero(self) -> bytes:
        end = self.content.find(b"\0", self.position, self.position + MAX_NAME + 1)
        if end < 0:
            raise Corrupt("its directory is damaged")
        return self.take(end + 1 - self.position)[:-1]


def _inflate(content: bytes, limit: int) -> bytes:
    """Return deflated bytes inflated. Raises Corrupt when they are damaged or more than `limit`."""
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(content, limit)
    except zlib.error as error:
        raise Corrupt("its header is damaged") from error
    if not inflater.eof or inflater.unused_data:
        raise Corrupt("its header is damaged, or exceeds its limit")
    return found
