"""Clips: every format, what is damaged, endless, or none; whole clips are held out; pairs of frames and their distance."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import around, folder, write
from limner.data import clips as module
from limner.data import frames
from limner.data.clips import Clips, closes, find, prepare_clips
from limner.data.split import split


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_gives_its_frames_and_their_times(suffix: str, tmp_path: Path) -> None:
    shown = [100, 200, 100, 40, 60, 100, 100, 100]
    write(tmp_path / f"a{suffix}", around(), shown)
    found = prepare_clips(tmp_path)
    assert len(found) == 1 and found.spec.size == (16, 16) and found.spec.channels == 3 and found.loops
    want = np.stack([np.asarray(frame) for frame in around()])
    got = found.frames.images.permute(0, 2, 3, 1).numpy()
    assert np.abs(got.astype(int) - want).max() <= (0 if suffix != ".gif" else 4)
    assert found.starts.tolist() == pytest.approx([0, 0.1, 0.3, 0.4, 0.44, 0.5, 0.6, 0.7]) and found.seconds.tolist() == pytest.approx([0.8])


def test_folders_of_frames_are_clips_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for clip in ("one", "two/deep"):
        (tmp_path / clip).mkdir(parents=True)
        for k, frame in enumerate(around(12)):
            frame.save(tmp_path / clip / f"frame{k}.png")
    found = prepare_clips(tmp_path)
    assert found.names == ["one", "two/deep"] and found.first.tolist() == [0, 12, 24]
    assert np.array_equal(found.frames.images[11].permute(1, 2, 0).numpy(), np.asarray(around(12)[11]))  # frame11, not frame2
    assert found.seconds.tolist() == pytest.approx([0.5, 0.5]) and found.duplicates == [["one", "two/deep"]]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_videos_are_read_with_pyav(suffix: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("libx264" if suffix == ".mp4" else "libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in around(10, 64):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
    found = prepare_clips(tmp_path)
    assert len(found.frames) == 10 and found.seconds.tolist() == pytest.approx([1.0], abs=0.02)
    want = np.stack([np.asarray(frame) for frame in around(10, 64)]).astype(int)
    assert np.abs(found.frames.images.permute(0, 2, 3, 1).numpy() - want).mean() < 12


def test_without_pyav_a_video_is_named_and_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(ValueError, match=r"no usable clip.*a\.mp4.*limner\[video\]"):
        prepare_clips(tmp_path)
    write(tmp_path / "b.gif", around())
    assert prepare_clips(tmp_path).frames.bad == [("a.mp4", frames.NO_VIDEO)]


def test_damaged_files_are_reported_and_a_clip_keeps_what_comes_before(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gif", around(16, 32)).read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "empty.gif").write_bytes(b"")
    (tmp_path / "text.webp").write_text("no picture")
    (tmp_path / "notes.txt").write_text("no clip")
    around()[0].save(tmp_path / "still.png")
    found = prepare_clips(tmp_path)
    assert found.names == ["cut.gif", "whole.gif"] and 2 <= found.first[1] < 16
    assert {name: why.split(":")[0] for name, why in found.frames.bad} == {
        "empty.gif": "empty file", "still.png": "a single frame", "text.webp": "not a picture, despite its name",
    }  # fmt: skip
    assert any("cut.gif is" in note and f"first {found.first[1]} frames" in note for note in found.frames.notes)


def test_endless_and_huge_clips_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAMES", 5)
    write(tmp_path / "long.gif", around(12))
    write(tmp_path / "fast.gif", around(12), 20)  # 50 frames a second, of which half are kept
    found = prepare_clips(tmp_path)
    assert found.names == ["fast.gif", "long.gif"] and found.first.tolist() == [0, 5, 10]
    assert found.seconds.tolist() == pytest.approx([0.2, 0.5]) and sum("longer than is read" in note for note in found.frames.notes) == 2
    monkeypatch.setattr(frames, "MAX_FRAMES", 512)
    monkeypatch.setattr(frames, "MAX_PIXELS", 3 * 16 * 16)
    write(tmp_path / "fast.gif", around(12), 90)
    write(tmp_path / "long.gif", around(12), 90)
    assert np.diff(prepare_clips(tmp_path).first).tolist() == [3, 3]
    monkeypatch.setattr(module, "MAX_BYTES", 4 * 16 * 16 * 4)
    write(tmp_path / "long.gif", around(12), 80)
    kept = prepare_clips(tmp_path)
    assert len(kept) == 1 and "choose a smaller --size" in kept.frames.bad[0][1]


def test_a_file_that_promises_endless_frames_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.gif", around(4))
    monkeypatch.setattr(frames, "MAX_READ", 50)

    def endless(image: Image.Image, number: int) -> None:
        pass  # whatever frame is asked for, there is one

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.seek", endless)
    clip = frames.ClipFile("a", (path,), (16, 16))
    assert len(frames.read(clip, (16, 16), 3, "crop", (0, 0, 0)).pictures) == 50


def test_transparency_channels_and_size(tmp_path: Path) -> None:
    clear = [Image.new("RGBA", (20, 30), (0, 0, 0, 0)) for _ in range(4)]
    for k, frame in enumerate(clear):
        frame.paste((255, 0, 0, 255), (4 * k, 4, 4 * k + 4, 20))
    write(tmp_path / "a.png", clear)
    assert prepare_clips(tmp_path).spec.channels == 4
    assert prepare_clips(tmp_path, channels=3, size=(16, 24)).spec.size == (16, 24)
    gray = tmp_path / "gray"
    write(gray / "a.gif", [frame.convert("L") for frame in around()])
    assert prepare_clips(gray).spec.channels == 1


def test_clips_come_from_the_cache_and_a_changed_file_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_clips(folder(tmp_path, 3))
    monkeypatch.setattr(module, "_decoded", lambda *_: pytest.fail("decoded again"))
    again = prepare_clips(tmp_path)
    assert again.frames.fingerprint == first.frames.fingerprint and np.array_equal(again.starts, first.starts)
    monkeypatch.undo()
    write(tmp_path / "0.gif", around(9))
    assert prepare_clips(tmp_path).frames.fingerprint != first.frames.fingerprint


def test_places_that_hold_no_clips(tmp_path: Path) -> None:
    around()[0].save(tmp_path / "a.png")
    for data, message in ((tmp_path, "a single frame"), (tmp_path / "x", "does not exist"), (np.zeros(3), "give its path"), ("", "give its path")):
        with pytest.raises(ValueError, match=message):
            prepare_clips(data)
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ValueError, match="no folder of clips"):
        prepare_clips(tmp_path / "text.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no clips"):
        prepare_clips(tmp_path / "empty")
    assert find(write(tmp_path / "one.gif", around()))[0][0].name == "one.gif"


# ---- pairs of frames -------------------------------------------------------------------------------------------------


@pytest.fixture
def twenty(tmp_path: Path) -> Clips:
    return prepare_clips(folder(tmp_path / "clips"))


def test_whole_clips_are_held_out_and_never_frames(twenty: Clips) -> None:
    training, held_out = split(twenty, 0)
    assert held_out is not None and len(held_out) == 2 and len(training) == 18
    assert set(training.names).isdisjoint(held_out.names) and set(training.names) | set(held_out.names) == set(twenty.names)
    names = {name.partition("#")[0] for name in training.pictures().names}
    assert names == set(training.names) and len(training.pictures()) == 18 * 8
    rows = {row.numpy().tobytes() for row in held_out.pictures().images}
    batch = training.batch(0, 200, 3)
    assert not any(frame.numpy().tobytes() in rows for name in ("image", "other") for frame in batch[name])


def test_copies_of_a_clip_stay_on_one_side(tmp_path: Path) -> None:
    place = folder(tmp_path, 19)
    (place / "copy.gif").write_bytes((place / "7.gif").read_bytes())
    for seed in range(8):
        training, held_out = split(prepare_clips(place), seed)
        assert held_out is not None and ("7.gif" in training.names) == ("copy.gif" in training.names)


def test_a_pair_is_a_pure_function_of_its_position(twenty: Clips) -> None:
    whole = twenty.batch(5, 30, 1)
    parts = [twenty.batch(5, 11, 1), twenty.batch(16, 19, 1)]
    for name, tensor in whole.items():
        assert np.array_equal(np.concatenate([part[name].numpy() for part in parts]), tensor.numpy())
    assert not np.array_equal(twenty.batch(5, 30, 2)["distance"].numpy(), whole["distance"].numpy())


def test_distances_in_a_loop_go_around_and_name_the_frames(twenty: Clips) -> None:
    assert twenty.loops and twenty.period == pytest.approx(0.8)
    batch = twenty.batch(0, 400, 0)
    distances = (batch["distance"].numpy() * 8).round(4)
    assert set(distances.tolist()) == {1, 2, 3, 4, 5, 6, 7}  # of eight frames, and never the same one
    frames_of = {row.numpy().tobytes(): i % 8 for i, row in enumerate(twenty.frames.images)}
    for one, two, time, distance in zip(batch["image"], batch["other"], batch["time"].numpy(), distances, strict=True):
        assert frames_of[one.numpy().tobytes()] == pytest.approx(8 * time, abs=1e-4)
        assert (frames_of[two.numpy().tobytes()] - frames_of[one.numpy().tobytes()]) % 8 == distance


def test_clips_that_do_not_loop_have_pairs_within_half_a_period(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i}.gif", around(40, 16, start=i / 3)[: 20 + 8 * i], 100)
    found = prepare_clips(tmp_path)
    assert not found.loops and found.period == pytest.approx(2 * 2.8)  # twice the median duration
    signed = (found.batch(0, 300, 0)["distance"].numpy() + 0.5) % 1 - 0.5
    assert np.abs(signed).min() > 0 and np.abs(signed).max() <= 0.5 and (signed < 0).mean() == pytest.approx(0.5, abs=0.1)
    assert prepare_clips(tmp_path, loop="yes").loops
    assert not closes(np.stack([np.asarray(f) for f in around(40)[:20]])) and closes(np.stack([np.asarray(f) for f in around()]))


def test_frames_further_apart_than_the_window_still_make_pairs(tmp_path: Path) -> None:
    write(tmp_path / "slow.gif", around(20)[:6], 30_000)
    found = prepare_clips(tmp_path, loop="no")
    assert found.period == 2 * module.WINDOW and len(found.batch(0, 50, 0)["distance"]) == 50
