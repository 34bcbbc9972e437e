"""The images API with OpenAI's own client, unchanged, against a live server."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limner.apps.serve.openai_api import hole_of
from limner.apps.web.access import Access
from serving import PICTURE, decoded, encoded, server

openai = pytest.importorskip("openai")
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def client(runs: dict[str, Any]) -> Iterator[Any]:
    with server(runs, Access.of("127.0.0.1", KEY)) as (live, _):
        yield openai.OpenAI(base_url=f"{live.base_url}/v1", api_key=KEY, max_retries=0)


def picture(answer: Any, index: int = 0) -> np.ndarray:
    return decoded(base64.b64decode(answer.data[index].b64_json))


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(openai.BadRequestError) as caught:
        call(**arguments)
    return str(caught.value.body["message"])


def file(image: Image.Image) -> io.BytesIO:
    content = io.BytesIO(encoded(image))
    content.name = "picture.png"
    return content


def test_models(client: Any, runs: dict[str, Any]) -> None:
    assert [model.id for model in client.models.list()] == list(runs)
    assert client.models.retrieve("styled").owned_by == "limner"
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-image-1'"):
        client.models.retrieve("gpt-image-1")


def test_a_wrong_key(client: Any) -> None:
    with pytest.raises(openai.AuthenticationError, match="key is missing or wrong"):
        client.with_options(api_key="another-key-entirely").models.list()


def test_generations(client: Any, runs: dict[str, Any]) -> None:
    answer = client.images.generate(
        model="squares", prompt="1 seed=7", n=3, size="16x16", response_format="b64_json", quality="high", style="vivid", user="me"
    )
    truth = np.asarray(runs["squares"].sample(3, seed=7, label="1")).astype(int)
    for i in range(3):
        assert np.abs(picture(answer, i) - truth[i]).max() <= 1
    assert answer.data[0].revised_prompt == "1 seed=7"
    assert (answer.size, answer.output_format) == ("16x16", "png")


def test_a_random_seed_is_named_and_gives_the_picture_again(client: Any) -> None:
    first = client.images.generate(prompt="any")
    assert re.fullmatch(r"seed=\d+", first.data[0].revised_prompt)
    again = client.images.generate(prompt=first.data[0].revised_prompt)
    assert (picture(first) == picture(again)).all()
    assert (picture(client.images.generate(prompt="any")) != picture(first)).any()


def test_formats_and_truncation(client: Any, runs: dict[str, Any]) -> None:
    answer = client.images.generate(model="styled", prompt="0 seed=1 truncation=0.5", output_format="webp", n=2)
    assert Image.open(io.BytesIO(base64.b64decode(answer.data[1].b64_json))).format == "WEBP"
    answer = client.images.generate(model="styled", prompt="0 seed=1 truncation=0.5")
    truth = np.asarray(runs["styled"].sample(1, seed=1, label="0", truncation=0.5))[0].astype(int)
    assert np.abs(picture(answer) - truth).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"prompt": "a cat in a hat"}, "The prompt 'a cat in a hat' is not understood: write one of 0, 1, or 'any', with seed=7"),
        ({"prompt": "1 seed=-7"}, "seed is a whole number such as seed=7, not '-7'"),
        ({"prompt": "1 seed=99999999999999999999"}, "below 2^64"),
        ({"prompt": "1 truncation=x"}, "truncation is a number such as truncation=0.7"),
        ({"prompt": "1", "n": 11}, "1 to 10 pictures"),
        ({"prompt": "1", "n": 0}, "1 to 10 pictures"),
        ({"prompt": "1", "size": "1024x1024"}, "makes pictures of 16x16 pixels"),
        ({"prompt": "1", "response_format": "url"}, "b64_json"),
        ({"prompt": "1", "output_format": "gif"}, "png, jpeg, webp"),
        ({"prompt": "x" * 1001}, "1000"),
        ({"prompt": "1", "model": "negative"}, "makes no pictures from a prompt"),
    ],
)
def test_what_is_refused_and_why(arguments: dict[str, Any], reason: str, client: Any) -> None:
    assert reason in refused(client.images.generate, **arguments)


def test_unknown_models_are_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="choose one of squares, styled"):
        client.images.generate(model="dall-e-3", prompt="1")


def test_edits_translate(client: Any, runs: dict[str, Any]) -> None:
    truth = np.asarray(runs["negative"].translate(PICTURE)).astype(int)
    for prompt in ("a2b", "direction=a2b", "any"):
        made = picture(client.images.edit(model="negative", image=file(PICTURE), prompt=prompt))
        assert np.abs(made[0] - truth).max() <= 1
    assert "a2b" in refused(client.images.edit, model="negative", image=file(PICTURE), prompt="make it snow")
    answer = client.images.edit(model="negative", image=[file(PICTURE)], prompt="a2b")  # named image[] by the client
    assert np.abs(picture(answer)[0] - truth).max() <= 1


def test_edits_restore(client: Any) -> None:
    rgb = PICTURE.convert("RGB")
    answer = client.images.edit(model="twice", image=file(rgb), prompt="strength=0.5")
    assert answer.size == "80x48"
    assert "strength=0.5 and scale=2" in refused(client.images.edit, model="twice", image=file(rgb), prompt="sharper, please")


def test_edits_fill_what_is_transparent_in_the_mask(client: Any) -> None:
    rgb = PICTURE.convert("RGB")
    mask = Image.new("RGBA", rgb.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (8, 8, 16, 16))
    made = picture(client.images.edit(model="fill", image=file(rgb), mask=file(mask), prompt="any"))
    same = (made == np.asarray(rgb).transpose(2, 0, 1)).all(0)
    assert same[np.asarray(hole_of(mask)) == 0].all()
    assert not same.all()
    white = Image.new("L", (4, 4), 255)
    assert hole_of(white).getextrema() == (255, 255)  # without transparency, white is the hole


def test_edits_reconstruct_and_others_are_refused(client: Any) -> None:
    assert picture(client.images.edit(model="coder", image=file(PICTURE), prompt="any")).shape == (1, 16, 16)
    assert "cannot apply" in refused(client.images.edit, model="squares", image=file(PICTURE), prompt="1")
    assert "one picture of a picture" in refused(client.images.edit, model="coder", image=file(PICTURE), prompt="any", n=2)
    damaged = io.BytesIO(encoded(PICTURE)[:100])
    damaged.name = "x.png"
    assert "truncated" in refused(client.images.edit, model="coder", image=damaged, prompt="any")


def test_variations_are_pictures_near_the_given_one(client: Any, runs: dict[str, Any]) -> None:
    spec = runs["coder"].spec
    sample = Image.fromarray(np.asarray(runs["coder"].sample(1, seed=4))[0, 0])
    answer = client.images.create_variation(model="coder", image=file(sample), n=3, extra_body={"seed": 5})
    made = [picture(answer, i).astype(float) for i in range(3)]
    assert answer.data[0].revised_prompt == "seed=5" and made[0].shape == (1, spec.height, spec.width)
    assert all((one != two).any() for one, two in zip(made, made[1:], strict=False))
    again = client.images.create_variation(model="coder", image=file(sample), n=1, extra_body={"seed": 5})
    assert np.abs(picture(again) - made[0]).max() <= 1
    strangers = np.asarray(runs["coder"].sample(64, seed=8)).astype(float)
    code = runs["coder"].encode(np.asarray(sample)[None, None])
    center = np.asarray(runs["coder"].decode(code))[0].astype(float)
    away = np.sqrt(np.square(strangers - center).mean((1, 2, 3))).mean()
    assert np.mean([np.sqrt(np.square(one - center).mean()) for one in made]) < away


def test_what_makes_no_variations_says_what_to_do_instead(client: Any) -> None:
    for model, words in (("squares", "limner invert"), ("negative", "is a translator"), ("sides", "is a classifier")):
        assert words in refused(client.images.create_variation, model=model, image=file(PICTURE))
    assert "1 to 10" in refused(client.images.create_variation, model="coder", image=file(PICTURE), n=11)
    assert "a whole number" in refused(client.images.create_variation, model="coder", image=file(PICTURE), extra_body={"seed": "x"})


class Shift:
    """An editor in miniature: a picture's code is its mean gray, and a direction adds to it."""

    directions, inverts = ("light",), True

    def __init__(self, model: Any) -> None:
        self.size = model.spec.size

    def invert(self, image: Image.Image, progress: Any) -> float:
        progress(0, 1)
        return float(np.asarray(image.convert("L")).mean())

    def code(self, z: np.ndarray, label: int | None) -> float:
        return 100.0 + (label or 0)

    def move(self, code: float, amounts: Any) -> float:
        return code + 10 * amounts.get("light", 0)

    def vary(self, code: float, z: np.ndarray) -> list[float]:
        return [code + i for i in range(len(z))]

    def draw(self, codes: Any) -> np.ndarray:
        return np.stack([np.full((1, *self.size), code, np.uint8) for code in codes])


def test_an_editor_inverts_and_moves_along_directions(runs: dict[str, Any]) -> None:
    import httpx

    from limner.apps.serve.service import serve_app
    from limner.apps.web.running import Background

    app = serve_app([("squares", runs["squares"])], Access.of("127.0.0.1"), editor_of=Shift)
    gray = Image.new("L", (20, 20), 50)
    with Background(app) as running:
        stock = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        assert (picture(stock.images.edit(image=file(gray), prompt="any")) == 50).all()
        assert (picture(stock.images.edit(image=file(gray), prompt="light=2.5")) == 75).all()
        assert "settings only, such as light=1" in refused(stock.images.edit, image=file(gray), prompt="dark=1")
        address = f"{running.url}/v1/runs/squares"
        body = {"seeds": [1, 2], "labels": [0, 1], "directions": {"light": -2}}
        made = httpx.post(f"{address}/generate", json=body, trust_env=False).json()["images"]
        assert [int(decoded(base64.b64decode(image["b64"])).max()) for image in made] == [80, 81]
        unknown = httpx.post(f"{address}/generate", json=body | {"directions": {"dark": 1}}, trust_env=False)
        assert unknown.json()["error"]["message"] == "The direction 'dark' is unknown; this model has light."
        assert httpx.get(address, trust_env=False).json()["directions"] == ["light"]
