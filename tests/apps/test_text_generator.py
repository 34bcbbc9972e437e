"""`limner train`, `sample`, `interpolate`, `evaluate` and `serve` with texts, and what is refused."""

from __future__ import annotations

import importlib.util
import io
import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from limner import cli
from limner.apps.evaluate import evaluate
from limner.apps.text import TextGenerator, interpolate, read_texts, sample
from limner.core import artifact, wordllama
from serving import server


def main(arguments: list[str]) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


needs_vectors = pytest.mark.skipif(not importlib.util.find_spec("wordllama"), reason="pip install 'limner[text]'")
NARROW = {"generator.width": 8, "discriminator.width": 8, "words": 6}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of 16x16 of one of three colors, each with a text beside it."""
    folder = tmp_path_factory.mktemp("captioned") / "colors"
    folder.mkdir()
    for i in range(60):
        name = ("red", "green", "blue")[i % 3]
        noise = np.random.default_rng(i).integers(0, 60, (16, 16, 3), dtype=np.uint8)
        noise[..., i % 3] += 180
        Image.fromarray(noise).save(folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(f"a {name} square of size {i // 12}")
    return folder


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "colors"
    limner.train(pictures, recipe="text2image", images=96, batch=16, changes=NARROW, out=out, quiet=True)
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> TextGenerator:
    found = limner.load(run, "cpu")
    assert isinstance(found, TextGenerator)
    return found


def test_a_run_describes_itself(run: Path, model: TextGenerator) -> None:
    described = json.loads((run / "limner.json").read_text())
    assert described["kind"] == "text-to-image generator"
    assert described["network"]["tokenizer"] == {"kind": "hashed", "vocabulary": 8192, "words": 6, "word_tokens": 12}
    assert model.captions == described["network"]["captions"] and all("square" in text for text in model.captions)
    assert described["data"]["spec"]["condition"] == {"kind": "tokens", "size": 8192, "length": 72}
    with Image.open(run / "preview.png") as sheet:  # a row of eight for each caption
        assert sheet.width > sheet.height > 0
    card = (run / "README.md").read_text()
    assert "a text-to-image generator" in card and f'--text "{model.captions[0]}"' in card


def test_the_same_seed_gives_the_same_pictures_and_texts_share_latents(model: TextGenerator) -> None:
    a, b = model.sample(3, text="a red square", seed=1), model.sample(5, text=["a red square", "قلب ❤"], seed=1)
    assert a.shape == (3, 3, 16, 16) and b.shape == (10, 3, 16, 16)
    assert np.array_equal(a, b[:3])
    assert not np.array_equal(a, model.sample(3, text="a red square", seed=2))
    assert model.sample(2).shape == (2 * len(model.captions), 3, 16, 16)
    assert model.sample(0, text="x").shape == (0, 3, 16, 16)
    assert len(model.sample_each(["a red square"] * 70)) == 70


@pytest.mark.parametrize("text", ["", "  ", "...", [], ["fine", ""], "x " * 9000, 5])
def test_bad_texts_are_sentences(text: object, model: TextGenerator) -> None:
    with pytest.raises((ValueError, TypeError), match=r"\.$|iterable"):
        model.sample(1, text=text)  # type: ignore[arg-type]


def test_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run), "--text", "a red square", "-n", "4", "--out", str(tmp_path / "a.png")]) == 0
    assert "4 pictures are in" in capsys.readouterr().out
    (tmp_path / "texts.txt").write_text("a red square\n\n  a blue square \n")
    assert (
        main(
            ["sample", str(run), "--text-file", str(tmp_path / "texts.txt"), "-n", "3", "--out", str(tmp_path / "many")]
        )
        == 0
    )
    assert len(list((tmp_path / "many").glob("*.png"))) == 6
    assert main(["sample", str(run), "--text", "red", "blue", "--out", str(tmp_path / "b.png")]) == 0
    assert "16 pictures are in" in capsys.readouterr().out
    assert (
        main(
            ["interpolate", str(run), "a red square", "a blue square", "--steps", "5", "--out", str(tmp_path / "c.png")]
        )
        == 0
    )
    assert (
        main(
            [
                "interpolate",
                str(run),
                "a red square",
                "a blue square",
                "--seconds",
                "1",
                "--out",
                str(tmp_path / "c.gif"),
            ]
        )
        == 0
    )
    with Image.open(tmp_path / "c.gif") as film:
        assert film.n_frames == 20  # type: ignore[attr-defined]
    assert main(["show", str(run)]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sample", "RUN", "--label", "red"], "--label has no meaning"),
        (["sample", "RUN", "--truncation", "0.5"], "--truncation has no meaning"),
        (["sample", "RUN", "--text", "..."], "has no words"),
        (["sample", "RUN", "--text", "a", "--out", "x.gif"], "limner interpolate"),
        (["sample", "RUN", "--text-file", "nowhere.txt"], "cannot be read"),
        (["sample", "RUN", "--text", "a", "--text-file", "x.txt"], "not both"),
        (["interpolate", "RUN", "a", ".", "--out", "x.png"], "has no words"),
        (["interpolate", "RUN", "a", "b", "--steps", "1", "--out", "x.png"], "at least 2"),
        (["interpolate", "RUN", "a", "b", "--steps", "0", "--out", "x.png"], "at least 2"),
        (["interpolate", "RUN", "a", "b", "--steps", "-3", "--out", "x"], "at least 2"),
        (["invert", "RUN", "x.png"], "text-to-image generator"),
        (["export", "RUN", "x.onnx", "--part", "encoder"], "generator, text_encoder, decoder, not 'encoder'"),
        (["train", "fashion", "--recipe", "spectral", "--captions", "x.csv", "--out", "none"], "without texts"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run) if a == "RUN" else a for a in arguments]) != 0
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


@pytest.mark.parametrize("embeddings", ["hashed", pytest.param("wordllama", marks=needs_vectors)])
def test_attention_to_words_from_training_to_films(
    embeddings: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {**NARROW, "generator.attention": True, "embeddings": embeddings}
    quick = {"batch": 16, "doctor": False, "metric": "none", "quiet": True}
    limner.train(pictures, recipe="text2image", images=32, changes=changes, out=tmp_path / "run", **quick)
    model = limner.load(tmp_path / "run", "cpu")
    assert isinstance(model, TextGenerator)
    described = json.loads((tmp_path / "run/limner.json").read_text())
    assert described["network"]["tokenizer"] == model.tokenizer.to_json()
    assert described["network"]["tokenizer"]["kind"] == embeddings
    assert ("pip install 'limner[text]'" in (tmp_path / "run/README.md").read_text()) == (embeddings == "wordllama")
    a, b = model.sample(3, text="a red square", seed=1), model.sample(3, text=["blue", "a red square"], seed=1)
    assert np.abs(a.astype(int) - b[3:].astype(int)).max() <= 1 and not np.array_equal(a, b[:3])
    steps = list(model.between("a red square", "a blue one", 5, n=2, seed=3))
    ends = model.sample(2, text=["a red square", "a blue one"], seed=3)
    assert max(np.abs(s.astype(int) - e).max() for s, e in ((steps[0], ends[:2]), (steps[-1], ends[2:]))) <= 2
    assert main(["sample", str(tmp_path / "run"), "--text", "a red square", "-n", "4"]) == 0
    if embeddings == "wordllama":
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("limner.core.wordllama.installed", missing)
            wordllama._vector.cache_clear()
            for command in (["sample", str(tmp_path / "run"), "--text", "a red square"], ["evaluate", str(tmp_path / "run"), "--data", str(pictures)]):
                assert main(command) == 2
                assert wordllama.MISSING in " ".join(capsys.readouterr().err.split())
            assert main(["show", str(tmp_path / "run")]) == 0


def missing() -> None:
    raise ValueError(wordllama.MISSING)


def test_missing_vectors_are_said_before_training(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("limner.recipes.text2image.installed", missing)
    arguments = ["train", str(pictures), "--recipe", "text2image", "--embeddings", "wordllama", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "pip install 'limner[text]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
    assert main([*arguments, "--vocabulary", "100"]) == 2
    assert "does nothing while embeddings is wordllama" in " ".join(capsys.readouterr().err.split())


def test_a_generator_without_texts_takes_none(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = {"generator.width": 8, "discriminator.width": 8}
    limner.train(squares, recipe="spectral", images=32, changes=narrow, out=tmp_path / "run", quiet=True)
    assert main(["sample", str(tmp_path / "run"), "--text", "a dog"]) != 0
    assert "trained without captions" in capsys.readouterr().err


def test_between_two_texts(model: TextGenerator, tmp_path: Path) -> None:
    steps = list(model.between("a red square", "a blue square", 4, n=2, seed=3))
    ends = model.sample(2, text=["a red square", "a blue square"], seed=3)
    close = [np.abs(a.astype(int) - b.astype(int)).max() for a, b in ((steps[0], ends[:2]), (steps[-1], ends[2:]))]
    assert len(steps) == 4 and max(close) <= 2  # sums in another order
    assert "5 pictures are in" in interpolate(model, "red", "blue", tmp_path / "f", steps=5)
    with pytest.raises(ValueError, match="--seconds"):
        interpolate(model, "red", "blue", tmp_path / "x.png", seconds=2)


def test_files_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    for content, said in (
        (b"\xff\xfe\xfa", "no text in UTF-8"),
        (b"\n \n", "holds no text"),
        (b"a" * 20_000_000, "too large"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_texts(path)
    path.write_text("\ufeffone\r\ntwo")
    assert read_texts(path) == ["one", "two"]


def test_a_damaged_tokenizer_is_refused(run: Path, tmp_path: Path, model: TextGenerator) -> None:
    import shutil

    for change, said in (({"vocabulary": 100}, "contradict"), ({"kind": "magic"}, "unknown"), ({"words": 0}, "words")):
        shutil.copytree(run, tmp_path / "copy", dirs_exist_ok=True)
        described = json.loads((run / artifact.CARD).read_text())
        described["network"]["tokenizer"] |= change
        (tmp_path / "copy" / artifact.CARD).write_text(json.dumps(described))
        with pytest.raises(ValueError, match=said):
            limner.load(tmp_path / "copy")
    with pytest.raises(ValueError, match="--text-file"):
        sample(model, ["a"], tmp_path / "x")


def test_evaluation_draws_for_the_captions_of_the_data(
    model: TextGenerator, pictures: Path, squares: Path, tmp_path: Path
) -> None:
    result, report = evaluate(model, str(pictures), ["fd"], ["pixels"], n=60, out=tmp_path / "e.html")
    assert report is not None and report.exists() and "fd" in result.to_json()
    with pytest.raises(ValueError, match="no captions"):
        evaluate(model, str(squares), ["fd"], ["pixels"], n=60, out=tmp_path / "e.html")


def test_evaluation_takes_the_table_of_the_training(
    model: TextGenerator, run: Path, pictures: Path, squares: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    table = tmp_path / "mine.csv"
    table.write_text("file,caption\n" + "".join(f"{i:02d}.png,a red square\n" for i in range(40)))
    drawn: list[str] = []
    monkeypatch.setattr(model, "sample_each", lambda texts, seed: (drawn.extend(texts), type(model).sample_each(model, texts, seed))[1])
    result, _ = evaluate(model, str(pictures), ["fd"], ["lowpass"], n=30, out=tmp_path / "e.html", captions=str(table))
    assert drawn == ["a red square"] * 30
    report = (tmp_path / "e.html").read_text()
    assert "20 of 60 pictures have no caption in mine.csv and are left out." in report
    assert "fd" in result.to_json()
    arguments = ["evaluate", str(run), "--data", str(pictures), "--metrics", "fd", "--features", "pixels", "-n", "60"]
    (tmp_path / "none.csv").write_text("file,caption\nnobody.png,a dog\n")
    for bad, said in (
        ("nowhere.csv", "does not exist"),
        (str(tmp_path / "none.csv"), "a caption for none of the pictures"),
        ("names", "have no captions: put x.txt"),
    ):
        assert main([*arguments, "--captions", bad]) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error
    assert main(["evaluate", str(squares), "--data", str(pictures), "--captions", str(table)]) == 2
    assert "no text-to-image generator, which --captions is for" in capsys.readouterr().err


def test_a_prompt_is_a_text_where_it_is_served(model: TextGenerator) -> None:
    with server({"colors": model}) as (client, _):
        body = {"model": "colors", "prompt": "a red square seed=3", "n": 2}
        made = client.post("/v1/images/generations", json=body)
        assert made.status_code == 200, made.text
        data = made.json()["data"]
        assert [one["revised_prompt"] for one in data] == ["a red square seed=3"] * 2
        with Image.open(io.BytesIO(b64decode(data[0]["b64_json"]))) as picture:
            got = np.asarray(picture.convert("RGB")).transpose(2, 0, 1).astype(int)
        assert np.abs(got - model.sample(1, text="a red square", seed=3)[0]).max() <= 2
        refused = client.post("/v1/images/generations", json={**body, "prompt": "..."})
        assert refused.status_code == 400 and "no words" in refused.text
        other = client.post("/v1/runs/colors/generate", json={"n": 1})
        assert other.status_code == 400 and "/v1/images/generations" in other.text
        assert client.get("/v1/runs/colors").json()["illustrates"] is True


def test_a_run_is_continued_with_its_captions(pictures: Path, tmp_path: Path) -> None:
    captions = tmp_path / "mine.jsonl"
    lines = [{"file": path.name, "caption": f"picture {path.stem}"} for path in sorted(pictures.glob("*.png"))[:40]]
    captions.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "run"
    more = {"recipe": "text2image", "captions": str(captions), "batch": 16, "changes": NARROW, "quiet": True}
    limner.train(pictures, images=32, out=out, **more)
    longer = limner.train(resume=out, more="32 images", options=None, quiet=True)
    assert longer.outcome.seen == 64 and limner.load(out, "cpu").captions[0].startswith("picture ")
    captions.write_text("\n".join(map(json.dumps, lines[:-1])))
    with pytest.raises(ValueError, match=r"another command|other pictures|--out"):
        limner.train(pictures, images=32, out=out, **more)
