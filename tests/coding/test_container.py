"""The container: what is written is read, limits come first, names stay in their folder."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.coding import container
from limner.coding.container import FORMS, Corrupt, Group, Header, Item, read, safe_name, start, varint, write

NAMES = st.text(st.characters(exclude_characters='\\:*?"<>|/', min_codepoint=33, exclude_categories=["Cs"]), min_size=1, max_size=9)
SIDES = st.integers(1, 3000)
ITEMS = st.builds(
    Item, width=SIDES, height=SIDES, form=st.sampled_from(FORMS), icc=st.sampled_from([b"", b"profile"]), exif=st.binary(max_size=9),
    name=NAMES.filter(safe_name),
)  # fmt: skip
HERE = b"1234"


def groups(header: Header) -> list[Group]:
    file = start(header)
    return [
        Group([bytes([i, k]) * (k + 1) for k in range(len(header.items[numbers[0]].tiles()))], b"alpha" if file.has_alpha(i) else None)
        for i, numbers in enumerate(header.groups)
    ]


@given(st.lists(ITEMS, min_size=1, max_size=12, unique_by=lambda item: item.name), st.integers(0, 100), st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(items: list[Item], quality: int, archive: bool) -> None:
    header = Header(HERE, quality, items if archive else items[:1], archive)
    content = write(header, groups(header))
    file = read(content, HERE)
    assert file.check == start(header).check and file.header.quality == quality and file.groups == groups(header)
    expected = header.items if archive else [Item(**{**vars(items[0]), "name": ""})]
    assert list(file.header.items) == list(expected)
    assert sorted(i for numbers in file.header.groups for i in numbers) == list(range(len(header.items)))
    with pytest.raises(Corrupt, match="another model"):
        read(content, b"4321")


def test_pictures_of_one_size_share_streams_up_to_the_area_of_a_tile() -> None:
    items = [Item(width=50, height=40, form="RGB", name=str(i)) for i in range(300)]
    items += [Item(width=2000, height=100, form="RGB", name="wide"), Item(width=2000, height=100, form="RGB", name="wide2")]
    found = Header(HERE, 1, items, archive=True).groups
    assert [len(numbers) for numbers in found] == [256, 44, 1, 1]
    assert [len(items[numbers[0]].tiles()) for numbers in found] == [1, 1, 2, 2]


@pytest.mark.parametrize("archive", [False, True])
def test_every_cut_is_noticed_or_only_the_last_stream_is_shorter(archive: bool) -> None:
    items = [Item(width=64 + i % 2, height=64, form=FORMS[i], icc=b"icc" * 5, name=f"name{i}") for i in range(4)]
    header = Header(HERE, 50, items if archive else items[3:], archive)
    content = write(header, groups(header))
    whole = read(content)
    for n in range(len(content)):
        try:
            found = read(content[:n])
        except Corrupt:
            continue
        assert found.header == whole.header
        for a, b in zip(found.groups, whole.groups, strict=True):
            for x, y in zip(a.streams, b.streams, strict=False):
                assert x == y or (y.startswith(x) and b is whole.groups[-1])


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.png", True), ("folder/b c.jpg", True), ("ünï/😀.png", True), ("a..b", True), (".hidden", True),
        ("../a", False), ("a/../b", False), ("/etc/passwd", False), ("a//b", False), ("a/", False), ("", False), (".", False),
        ("C:a", False), ("C:\\a", False), ("a\\..\\b", False), ("a\0b", False), ("a\nb", False), ("x" * 1025, False), ("a/. /b", False),
    ],
)  # fmt: skip
def test_names(name: str, safe: bool) -> None:
    assert safe_name(name) == safe
    header = Header(HERE, 50, [Item(width=1, height=1, form="RGB", name=name)], archive=True)
    content = write(header, [Group([b"x"])])
    if safe:
        assert read(content).header.items[0].name == name
    else:
        with pytest.raises(Corrupt, match=r"leads out of the folder|directory"):
            read(content)


def test_limits_stand_before_allocations() -> None:
    head = b"LIM\1\0" + HERE + b"\x32"
    for width, height in ((1 << 34, 1), (1 << 20, 1 << 20), (0, 5), (1 << 27, 1), (20_000, 20_000)):
        with pytest.raises(Corrupt, match="limit"):
            read(head + varint(width) + varint(height) + b"\1xx")
    bomb = zlib.compress(bytes(64 << 20), 9)
    for flags, body in ((1, varint(len(bomb)) + bomb), (2, b"\1\1\1" + varint(len(bomb)) + bomb)):
        with pytest.raises(Corrupt, match="limit"):
            read(head[:4] + bytes([flags]) + head[5:] + body)
    many = zlib.compress(varint(container.MAX_PICTURES + 1) + bytes(100))
    with pytest.raises(Corrupt, match="limit"):
        read(head[:4] + b"\1" + head[5:] + varint(len(many)) + many)
    few = zlib.compress(varint(90_000) + bytes(1000))
    with pytest.raises(Corrupt, match="damaged"):
        read(head[:4] + b"\1" + head[5:] + varint(len(few)) + few)
    long = b"".join([varint(2000), b"\0", *(varint(min(1024, i)) for i in range(2000)), bytes(2000 * 5), b"x" * 1024 + b"\0"])
    with pytest.raises(Corrupt):
        read(head[:4] + b"\1" + head[5:] + varint(len(zlib.compress(long))) + zlib.compress(long))


def test_an_archive_costs_few_bytes_a_picture() -> None:
    items = [Item(width=64, height=64, form="RGB", name=f"emoji/1f{i:03x}.png") for i in range(256)]
    assert len(Header(HERE, 50, items, archive=True).to_bytes()) < 256 * 2.5


def test_a_directory_of_many_tiles_allocates_little() -> None:
    items = [Item(width=1 << 20, height=169, form="L", name=str(i)) for i in range(20_000)]  # 1,024 tiles each
    content = Header(HERE, 1, items, archive=True).to_bytes()
    assert len(content) < 200_000
    tracemalloc.start()
    try:
        file = read(content, HERE)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert not any(group.streams for group in file.groups)


def test_an_archive_that_could_not_be_read_again_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_DIRECTORY", 1000)
    items = [Item(width=8, height=8, form="L", name=str(i), exif=bytes([i]) * 400) for i in range(3)]
    assert start(Header(HERE, 1, items[:2], archive=True))
    with pytest.raises(ValueError, match=r"exceed the .* of an archive"):
        start(Header(HERE, 1, items, archive=True))


def test_a_name_that_is_no_unicode_is_not_safe() -> None:
    assert not safe_name("a\udcff.png") and safe_name("ä/🙂.png")
