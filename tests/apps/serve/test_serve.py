"""`limner serve`: Limner's own API, the Open Inference Protocol, limits, batches, health and metrics, on a live server."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from limner.apps.serve.service import calibrate
from serving import PICTURE, apply, decoded, encoded, server

pytest.importorskip("fastapi")
ONE_LEVEL = 1  # of 255, by which a picture may differ between batch sizes: kernels of other shapes round differently


def images(answer: httpx.Response) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    return [decoded(base64.b64decode(image["b64"])) for image in answer.json()["images"]]


def message(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


# ---- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["squares", "styled"])
def test_pictures_are_those_of_sample(run: str, client: httpx.Client, runs: dict[str, Any]) -> None:
    for options, asked in (
        ({"seed": 7}, {"seed": 7}), ({"seed": 2**63, "label": "1"}, {"seed": 2**63, "label": "1"}), ({"seed": 0, "label": "all"}, {"label": "all", "seed": 0}),
    ):  # fmt: skip
        made = images(client.post(f"/v1/runs/{run}/generate", json={"n": 4, **asked}))
        truth = np.asarray(runs[run].sample(4, **options)).astype(int)
        assert np.abs(np.stack(made) - truth).max() <= ONE_LEVEL


def test_a_seed_gives_the_same_picture_whatever_the_batch(runs: dict[str, Any]) -> None:
    """Sixty clients at once, whose pictures share batches, against each picture alone."""
    with server({"squares": runs["squares"]}, batch_wait=0.05, queue_seconds=100) as (client, app):

        def ask(seed: int) -> bytes:
            answer = client.get("/v1/runs/squares/picture", params={"seed": seed})
            assert answer.status_code == 200
            return answer.content

        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(ask, range(60)))
        counts = app.state.service.batches._counts["squares",]
        assert sum(counts[1:]) > 0, "no two requests shared a batch"
        for seed, content in enumerate(together):
            difference = np.abs(decoded(content).astype(int) - decoded(ask(seed)).astype(int))
            assert difference.max() <= ONE_LEVEL


def test_seeds_latents_and_labels(client: httpx.Client, runs: dict[str, Any]) -> None:
    model = runs["squares"]
    several = client.post("/v1/runs/squares/generate", json={"seeds": [5, 5, 6], "labels": [1, 1, 0]})
    first, again, other = images(several)
    assert (first == again).all()
    assert (first != other).any()
    assert several.json()["images"][2]["seed"] == 6
    z = np.random.default_rng(0).standard_normal((3, model.z_size)).astype(np.float32)
    made = images(client.post("/v1/runs/squares/generate", json={"latents": z.tolist(), "labels": [0, 1, 0]}))
    truth = np.asarray(model.render(z, np.array([0, 1, 0]))).astype(int)
    assert np.abs(np.stack(made) - truth).max() <= ONE_LEVEL


def test_styles_are_truncated_without_preparation(client: httpx.Client, runs: dict[str, Any]) -> None:
    made = images(client.post("/v1/runs/styled/generate", json={"n": 3, "seed": 1, "label": "0", "truncation": 0.5}))
    truth = np.asarray(runs["styled"].sample(3, seed=1, label="0", truncation=0.5)).astype(int)
    assert np.abs(np.stack(made) - truth).max() <= ONE_LEVEL
    answer = client.post("/v1/runs/squares/generate", json={"seed": 1, "truncation": 0.5})
    assert "start the server with --truncation" in message(answer)


@pytest.mark.slow
def test_typical_pictures_are_chosen_after_a_calibration(runs: dict[str, Any]) -> None:
    calibrate(runs["squares"])
    with server({"squares": runs["squares"]}, truncation=True) as (client, _):
        made = images(client.post("/v1/runs/squares/generate", json={"n": 2, "seed": 1, "label": "0", "truncation": 0.5}))
        truth = np.asarray(runs["squares"].sample(2, seed=1, label="0", truncation=0.5)).astype(int)
        assert np.abs(np.stack(made) - truth).max() <= ONE_LEVEL
        z = [[0.0] * runs["squares"].z_size]
        assert "redraws latents" in message(client.post("/v1/runs/squares/generate", json={"latents": z, "labels": [0], "truncation": 0.5}))


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_one_picture_as_a_file(form: str, client: httpx.Client) -> None:
    answer = client.get("/v1/runs/squares/picture", params={"seed": 3, "index": 2, "label": "1", "format": form})
    assert answer.headers["content-type"] == f"image/{form}"
    truth = images(client.post("/v1/runs/squares/generate", json={"seed": 3, "n": 3, "label": "1"}))[2]
    if form == "png":
        assert (decoded(answer.content) == truth).all()
    else:
        assert decoded(answer.content).shape[1:] == truth.shape[1:]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"n": 0}, "1 to 10 pictures"),
        ({"n": 11}, "1 to 10 pictures"),
        ({"n": 10**400}, "n"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1, "seeds": [1]}, "one of the three"),
        ({"seeds": list(range(11))}, "seeds"),
        ({"seeds": []}, "1 to 10 pictures"),
        ({"label": "cat"}, "unknown"),
        ({"label": "../../etc/passwd"}, "unknown"),
        ({"labels": [2]}, "from 0 to 1"),
        ({"labels": [0, 1]}, "one label for each picture"),
        ({"latents": [[0.0]]}, "list of"),
        ({"latents": []}, "1 to 10 pictures"),
        ({"truncation": 1.5}, "0.05 to 1"),
        ({"directions": {"smile": 2}}, "direction 'smile' is unknown"),
        ({"n": 2, "seeds": [1]}, "one picture for each of the seeds"),
        ({"label": "1", "labels": [1]}, "a label or labels"),
        ({"format": "svg"}, "png, jpeg, webp"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_a_generator_does_not_take(body: dict[str, Any], reason: str, client: httpx.Client) -> None:
    content = json.dumps(body)
    answer = client.post("/v1/runs/squares/generate", content=content, headers={"content-type": "application/json"})
    assert reason in message(answer)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1e30"])
def test_numbers_that_are_not_finite_are_refused(number: str, client: httpx.Client, runs: dict[str, Any]) -> None:
    rows = ",".join([number] * runs["squares"].z_size)
    for content in (f'{{"latents": [[{rows}]], "labels": [0]}}', f'{{"truncation": {number}}}', f'{{"directions": {{"x": {number}}}}}'):
        answer = client.post("/v1/runs/squares/generate", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text


# ---- pictures in ------------------------------------------------------------------------------------------------------


def test_a_translator(client: httpx.Client, runs: dict[str, Any]) -> None:
    made = decoded(apply(client, "negative", PICTURE).content)
    truth = np.asarray(runs["negative"].translate(PICTURE))
    assert np.abs(made[0].astype(int) - truth).max() <= ONE_LEVEL
    assert "translates a2b, not 'b2a'" in message(apply(client, "negative", PICTURE, direction="b2a"))
    assert "takes no strength" in message(apply(client, "negative", PICTURE, strength=1))


def test_a_restorer(client: httpx.Client, runs: dict[str, Any]) -> None:
    rgb = PICTURE.convert("RGB")
    made = decoded(apply(client, "twice", rgb).content)
    assert made.shape == (3, 48, 80)
    truth = np.asarray(runs["twice"].restore(rgb)).transpose(2, 0, 1)
    assert np.abs(made.astype(int) - truth).max() <= ONE_LEVEL
    assert decoded(apply(client, "twice", rgb, scale=1.5, strength=0.5).content).shape == (3, 36, 60)
    assert "scale from 1 to 2" in message(apply(client, "twice", rgb, scale=3))
    assert "strength goes from 0" in message(apply(client, "twice", rgb, strength=7))
    assert "is a number" in message(apply(client, "twice", rgb, strength="nan"))
    assert "A mask is for" in message(apply(client, "twice", rgb, rgb))


def test_a_hole_is_filled(client: httpx.Client) -> None:
    rgb = PICTURE.convert("RGB")
    mask = Image.new("L", rgb.size)
    mask.paste(255, (8, 8, 16, 16))
    made, truth = decoded(apply(client, "fill", rgb, mask).content), np.asarray(rgb).transpose(2, 0, 1)
    inside = np.asarray(mask) > 0
    assert (made[:, ~inside] == truth[:, ~inside]).all()
    assert "give a mask" in message(apply(client, "fill", rgb))
    assert "give a mask of the picture's size" in message(apply(client, "fill", rgb, mask.resize((10, 10))))


def test_an_autoencoder_reconstructs(client: httpx.Client, runs: dict[str, Any]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8))
    made = decoded(apply(client, "coder", picture).content)
    truth = np.asarray(runs["coder"].reconstruct(np.array(picture)[None, None]))[0]
    assert np.abs(made.astype(int) - truth.astype(int)).max() <= ONE_LEVEL


def test_a_classifier(client: httpx.Client, runs: dict[str, Any]) -> None:
    answer = client.post("/v1/runs/sides/classify", files={"image": encoded(PICTURE)})
    found = answer.json()["classes"]
    truth = runs["sides"].classify(PICTURE)[0]
    assert [entry["label"] for entry in found] == [runs["sides"].classes[i] for i in np.argsort(-truth)]
    assert sum(entry["probability"] for entry in found) == pytest.approx(1)
    assert "does not classify" in message(client.post("/v1/runs/squares/classify", files={"image": encoded(PICTURE)}))
    assert "cannot apply" in message(apply(client, "sides", PICTURE))
    assert "cannot apply" in message(apply(client, "squares", PICTURE))


def test_forms_that_hold_no_picture(client: httpx.Client) -> None:
    address = "/v1/runs/negative/apply"
    assert "Send the picture as a form" in message(client.post(address, json={}))
    assert "holds no picture" in message(client.post(address, files={"picture": encoded(PICTURE)}))
    assert "not a picture" in message(client.post(address, files={"image": b"<svg onload=alert(1)>"}))
    assert "one picture" in message(client.post(address, files=[("image", encoded(PICTURE)), ("image", encoded(PICTURE))]))


def test_pictures_are_limited_in_and_out(runs: dict[str, Any]) -> None:
    with server({"twice": runs["twice"], "negative": runs["negative"]}, max_pixels=40 * 40) as (client, _):
        small, large = Image.new("RGB", (40, 40)), Image.new("RGB", (41, 40))
        assert apply(client, "negative", small).status_code == 200
        assert apply(client, "negative", large).status_code == 413
        answer = apply(client, "twice", small)  # four times as many
        assert answer.status_code == 413
        assert "The restored picture would have more than 1,600 pixels" in answer.text
        assert apply(client, "twice", small.resize((20, 20))).status_code == 200


# ---- codecs -----------------------------------------------------------------------------------------------------------


def pack(client: httpx.Client, image: Image.Image, run: str = "packer", **fields: Any) -> httpx.Response:
    return client.post(f"/v1/runs/{run}/compress", files={"image": encoded(image)}, data={name: str(value) for name, value in fields.items()})


def unpack(client: httpx.Client, content: bytes, run: str = "packer", **fields: Any) -> httpx.Response:
    return client.post(f"/v1/runs/{run}/decompress", files={"file": content}, data=fields)


def test_a_codec_compresses_and_decompresses(client: httpx.Client, runs: dict[str, Any]) -> None:
    rgb, codec = PICTURE.convert("RGB"), runs["packer"]
    for fields, options in (({}, {}), ({"quality": 90, "metadata": "false"}, {"quality": 90, "metadata": False})):
        answer = pack(client, rgb, **fields)
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/octet-stream", answer.text
        assert answer.content == codec.compress(rgb, **options)
        again = unpack(client, answer.content)
        assert again.headers["content-type"] == "image/png"
        assert np.abs(decoded(again.content).astype(int) - np.asarray(codec.decompress(answer.content)).transpose(2, 0, 1)).max() <= ONE_LEVEL
    assert client.get("/v1/runs/packer").json()["compresses"]
    assert unpack(client, answer.content, format="webp").headers["content-type"] == "image/webp"


def test_what_a_codec_refuses(client: httpx.Client, runs: dict[str, Any]) -> None:
    content = runs["packer"].compress(PICTURE)
    for answer, words in (
        (pack(client, PICTURE, quality=101), "0 (smallest) to 100"), (pack(client, PICTURE, quality="x"), "a whole number"),
        (pack(client, PICTURE, "squares"), "does not compress"), (unpack(client, content, "squares"), "does not compress"),
        (unpack(client, b"no picture"), "cannot be decompressed"), (unpack(client, content[:-3]), "cannot be decompressed"),
        (client.post("/v1/runs/packer/decompress", files={"image": content}), "in the field file"),
    ):  # fmt: skip
        assert words in message(answer)
    with server({"packer": runs["packer"]}, max_pixels=1024) as (small, _):
        large = Image.new("RGB", (40, 40))
        assert pack(small, large).status_code == 413
        assert unpack(small, runs["packer"].compress(large)).status_code == 413, "before its pixels are decoded"


# ---- the Open Inference Protocol --------------------------------------------------------------------------------------


def test_inference_protocol(client: httpx.Client, runs: dict[str, Any]) -> None:
    assert client.get("/v2").json()["name"] == "limner"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/squares/ready").json() == {"name": "squares", "ready": True}
    size = runs["squares"].z_size
    about = client.get("/v2/models/squares").json()
    assert about["inputs"] == [
        {"name": "latents", "datatype": "FP32", "shape": [-1, size]}, {"name": "labels", "datatype": "INT64", "shape": [-1]},
    ]  # fmt: skip
    assert about["outputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 16, 16]}]
    z = np.random.default_rng(1).standard_normal((2, size)).astype(np.float32)
    inputs = [
        {"name": "latents", "shape": [2, size], "datatype": "FP32", "data": z.tolist()},
        {"name": "labels", "shape": [2], "datatype": "INT64", "data": [1, 0]},
    ]
    answer = client.post("/v2/models/squares/infer", json={"id": "one", "inputs": inputs}).json()
    assert (answer["id"], answer["model_name"]) == ("one", "squares")
    (output,) = answer["outputs"]
    made = np.array(output["data"]).reshape(output["shape"])
    assert np.abs(made - np.asarray(runs["squares"].render(z, np.array([1, 0]))).astype(int)).max() <= ONE_LEVEL


@pytest.mark.parametrize(("run", "shape"), [("negative", [2, 1, 20, 30]), ("twice", [1, 3, 20, 30]), ("sides", [3, 1, 9, 9]), ("coder", [1, 1, 16, 16])])
def test_inference_on_pictures(run: str, shape: list[int], client: httpx.Client) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    if run == "coder":  # samples, but also takes pictures: its protocol is that of a generator
        about = client.get(f"/v2/models/{run}").json()
        assert about["inputs"][0]["name"] == "latents"
        return
    inputs = [{"name": "images", "shape": shape, "datatype": "UINT8", "data": pixels.reshape(-1).tolist()}]
    answer = client.post(f"/v2/models/{run}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    expected = {"negative": shape, "twice": [1, 3, 40, 60], "sides": [3, 2]}[run]
    assert answer.json()["outputs"][0]["shape"] == expected


def latents(size: int, **changes: Any) -> dict[str, Any]:
    return {"name": "latents", "shape": [1, size], "datatype": "FP32", "data": [0.0] * size} | changes


def test_errors_of_the_inference_protocol(client: httpx.Client, runs: dict[str, Any]) -> None:
    size = runs["styled"].z_size
    label = {"name": "labels", "shape": [1], "datatype": "INT64", "data": [0]}
    for bad, status in (
        ([], 400), ([label], 400), ([latents(size)], 400), ([latents(size), latents(size)], 400), ([latents(size, name="x"), label], 400),
        ([latents(size, shape=[1, size + 1]), label], 400), ([latents(size, shape=[-1, -size]), label], 400),
        ([latents(size, shape=[0, size], data=[]), label], 400), ([latents(size, datatype="BYTES"), label], 400),
        ([latents(size, data=["1"] * size), label], 400), ([latents(size, data=[[0.0], [0.0, 1.0]]), label], 400),
        ([latents(size, data=[None] * size), label], 400), ([latents(size, data=[1e39] * size), label], 400),
        ([latents(size, shape=[2**40, size]), label], 413), ([latents(size), label | {"data": [5]}], 400),
        ([latents(size), label | {"data": [0.5]}], 400), ([latents(size), label | {"data": [2**70]}], 400),
    ):  # fmt: skip
        answer = client.post("/v2/models/styled/infer", json={"inputs": bad})
        assert answer.status_code == status, (bad, answer.text)
        assert isinstance(answer.json()["error"], str)
    pixels = {"name": "images", "shape": [1, 1, 4, 4], "datatype": "UINT8", "data": [256] * 16}
    assert client.post("/v2/models/negative/infer", json={"inputs": [pixels]}).status_code == 400
    assert client.get("/v2/models/nothing").json() == {"error": "There is no model 'nothing'."}
    assert client.post("/v2/models/styled/infer", json={"inputs": [latents(size), label], "outputs": [{"name": "x"}]}).status_code == 400
