"""Requests of the page, and what the files of a run say about it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from limner.apps.studio import dataset
from limner.apps.studio.launch import Launches, check_name, identity
from limner.apps.studio.newest import Newest, Superseded
from limner.apps.studio.runs import Log, Runs
from limner.apps.studio.studio import Studio
from limner.cli.studio import STANDBY
from limner.core import process
from studio_process import until


def run_id(client: Any) -> str:
    return str(client.get("/api/home").json()["runs"][0]["id"])


def test_home_names_runs_recipes_and_samples(client: Any, home: Path) -> None:
    found = client.get("/api/home").json()
    assert [run["name"] for run in found["runs"]] == ["squares"] and found["samples"] == ["fashion", "emoji"]
    run = found["runs"][0]
    assert run["status"] == "finished" and run["images"] == run["budget"] == 320 and run["usable"] and run["kind"] == "generator"
    assert run["sheets"][0]["images"] == 0 and run["sheets"][-1]["images"] == 320


def test_state_changes_need_the_token_and_the_own_origin(client: Any) -> None:
    run = run_id(client)
    assert client.post(f"/api/runs/{run}/pause", headers={"x-limner-token": "wrong"}).status_code == 403
    assert client.post("/api/train", json={"source": "fashion"}, headers={"x-limner-token": ""}).status_code == 403
    assert client.post("/api/data", json={"source": "fashion"}, headers={"origin": "http://example.org"}).status_code == 403
    assert client.get("/api/home", headers={"host": "example.org"}).status_code == 421


def test_the_page_is_served_with_its_token_and_without_inline_code(client: Any) -> None:
    page = client.get("/")
    assert 'name="limner-token" content=""' not in page.text and "{{" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"] and "onclick=" not in page.text and "style=" not in page.text
    for name in ("main.js", "base.css", "views.css", "icon.svg"):
        assert client.get(f"/static/{name}").status_code == 200
    assert client.get("/static/../app.py").status_code == 404


def test_a_picture_comes_with_its_command(client: Any, home: Path) -> None:
    run = run_id(client)
    answer = client.post(f"/api/runs/{run}/picture", json={"state": {"seed": 4, "label": "1", "axes": {"2": 1.5}}, "view": "a", "number": 1})
    assert answer.status_code == 200
    line = unquote(answer.headers["x-limner-command"])
    assert line == f"limner picture {home / 'squares'} picture.png --seed 4 --label 1 --axis 2=1.5"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (16, 16) and image.text["Comment"] == line  # type: ignore[attr-defined]


def test_an_overtaken_request_is_not_answered(client: Any) -> None:
    run = run_id(client)
    draw = lambda number: client.post(f"/api/runs/{run}/picture", json={"state": {"seed": 1}, "view": "b", "number": number}).status_code  # noqa: E731
    assert [draw(5), draw(3), draw(5), draw(6)] == [200, 204, 200, 200]


def test_of_waiting_requests_only_the_newest_is_drawn() -> None:
    newest, drawn, dropped = Newest(), [], []
    first = threading.Event()
    go = threading.Event()

    def request(number: int) -> None:
        try:
            with newest.turn("view", number):
                drawn.append(number)
                first.set()
                go.wait(10)
        except Superseded:
            dropped.append(number)

    threads = [threading.Thread(target=request, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
        first.wait(10)
        time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join(10)
    assert drawn == [1, 5] and sorted(dropped) == [2, 3, 4]


@pytest.mark.parametrize("state", [[], "x", {"latent": "/etc/passwd"}, {"latent": "../../x.latent.npz"}, {"seed": {}}, {"axes": [1]}])
def test_damaged_states_and_foreign_files_are_refused(client: Any, state: Any) -> None:
    answer = client.post(f"/api/runs/{run_id(client)}/picture", json={"state": state})
    assert answer.status_code == 400, answer.text


def test_model_facts_map_strip_and_blobs(client: Any) -> None:
    run = run_id(client)
    facts = client.get(f"/api/runs/{run}/model").json()
    assert facts["draws"] and facts["classes"] == ["0", "1"] and facts["axes"] == 8 and not facts["styles"]
    strip = client.post(f"/api/runs/{run}/strip", json={"states": [{"seed": 1}, {"seed": 2}], "view": "c", "number": 1})
    assert Image.open(io.BytesIO(strip.content)).size == (32, 16)
    made = client.post(f"/api/runs/{run}/map", json={"state": {"seed": 1, "label": "0"}}).json()
    sheet = client.get(f"/api/runs/{run}/map/{made['id']}/pictures.png")
    assert Image.open(io.BytesIO(sheet.content)).size == (13 * 16, 13 * 16) and made["landmarks"]
    real = client.get(f"/api/runs/{run}/map/{made['id']}/landmarks.png")
    assert Image.open(io.BytesIO(real.content)).size == (16 * len(made["landmarks"]), 16)
    assert client.get("/api/blobs/nothing").status_code == 404
    assert client.get("/api/runs/nothing").status_code == 404


def test_paths_of_requests_never_leave_the_run(client: Any) -> None:
    run = run_id(client)
    for path in ("sheets/..%2f..%2frun.json", "sheets/7.png", "sheets/-1.png"):
        assert client.get(f"/api/runs/{run}/{path}").status_code in (400, 404)
    assert client.get(f"/api/runs/{run}/sheets/0.png").headers["content-type"] == "image/png"


def test_a_data_set_is_inspected_as_by_the_command(client: Any, squares: Path) -> None:
    name = client.post("/api/data", json={"source": str(squares)}).json()["id"]
    report = until(lambda: (found := client.get(f"/api/data/{name}").json())["state"] == "ready" and found)
    assert report["count"] == 96 and report["classes"] == [["0", 48], ["1", 48]] and (report["height"], report["channels"]) == (16, 1)
    sheet = client.get(f"/api/data/{name}/sheet.png")
    assert Image.open(io.BytesIO(sheet.content)).size == (16 * 64, 4 * 64)
    wrong = client.post("/api/data", json={"source": "/nowhere/at/all"}).json()["id"]
    failed = until(lambda: (found := client.get(f"/api/data/{wrong}").json())["state"] == "failed" and found)
    assert "does not exist" in failed["error"]


def test_dropped_files_keep_their_folders_and_nothing_else(client: Any, home: Path) -> None:
    drop = client.post("/api/drops", json={"name": "my cats/../x"}).json()
    assert Path(drop["path"]).parent == home / ".studio" / "dropped"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    add = lambda name: client.post(f"/api/drops/{drop['id']}/files", params={"name": name}, content=buffer.getvalue()).status_code  # noqa: E731
    assert add("cats/one.png") == 200 and (Path(drop["path"]) / "cats" / "one.png").read_bytes() == buffer.getvalue()
    assert [add(name) for name in ("../two.png", "/two.png", "a/../../two.png", ".hidden.png", "two.exe", "a\\..\\two.png", "")] == [400] * 7
    assert client.post("/api/drops/other/files", params={"name": "a.png"}, content=b"").status_code == 404
    assert [p.name for p in (home / ".studio").rglob("*") if p.is_file()] == ["one.png"]


def test_the_command_of_a_training(studio: Studio, home: Path) -> None:
    parts, folder, recipe, kind = studio.train_command({"source": "fashion", "minutes": "2.5", "recipe": "dcgan", "size": "32", "name": "my run"})
    assert parts == ["limner", "train", "fashion", "--recipe", "dcgan", "--size", "32", "--minutes", "2.5", "--out", str(home / "my run")]
    assert (folder, recipe, kind) == (home / "my run", "dcgan", "generator")
    assert studio.train_command({"source": "/data/squares/"})[1] == home / "squares-2"  # squares exists
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"source": ""}, "Choose pictures"), ({"source": "--out"}, "dash"), ({"source": "x", "recipe": "ghost"}, "unknown"),
        ({"source": "x", "minutes": "soon"}, "numbers"), ({"source": "x", "minutes": -1}, "3 seconds"), ({"source": "x", "size": 100000}, "2,048"),
        ({"source": "x", "name": "../up"}, "no name"), ({"source": "x", "name": ".hidden"}, "no name"),
    ]  # fmt: skip
    for fields, message in wrong:
        with pytest.raises(ValueError, match=message):
            studio.train_command(fields)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a\nb", "x" * 81, " a", "a "])
def test_names_of_runs_are_plain(name: str) -> None:
    with pytest.raises(ValueError):
        check_name(name)


def test_the_log_is_read_as_it_grows_and_again_when_lines_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    line = lambda images: json.dumps({"images": images, "seconds": 1.0}) + "\n"  # noqa: E731
    log = Log(path)
    log.update()
    assert log.entries == []
    path.write_text(line(0) + line(32) + '{"images": 64, "sec')
    log.update()
    assert [e["images"] for e in log.entries] == [0, 32] and log.generation == 0
    path.write_text(line(0) + line(32) + line(64) + "broken\n")
    log.update()
    assert [e["images"] for e in log.entries] == [0, 32, 64] and log.generation == 0
    path.write_text(line(0) + line(48) + line(96) + line(128) + line(160))  # after a resume from an earlier checkpoint
    log.update()
    assert [e["images"] for e in log.entries] == [0, 48, 96, 128, 160] and log.generation == 1


# ---- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_training_is_started_paused_and_resumed_bit_for_bit(studio: Studio, home: Path, squares: Path, prepared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a process of its own, found by its files alone, and the weights after a pause are those of an unbroken run."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    studio.launches.standby = [sys.executable, "-c", STANDBY] if prepared else None
    if prepared:
        studio.launches.prepare()
        waiting = studio.launches._ready
        assert waiting is not None and waiting.poll() is None
    common = ["limner", "train", str(squares), "--recipe", "dcgan", "--batch", "16", "--images", "2400", "--generator.width", "4", "--discriminator.width", "4"]
    folder = home / "new"
    launch = studio.launches.start(folder, [*common, "--out", str(folder)], str(squares), "dcgan", "generator")
    if prepared:
        assert launch.number == waiting.pid  # type: ignore[union-attr]
    assert studio.runs.describe(folder)["status"] == "starting"
    with pytest.raises(ValueError, match="already"):
        studio.launches.start(folder, [*common, "--out", str(folder)], str(squares), "dcgan", "generator")
    until(lambda: studio.runs.describe(folder)["images"] > 100)

    fresh = Runs([home], Launches(home, studio.launches.program))  # as a new server sees it
    seen = fresh.describe(fresh.found()[identity(folder)])
    assert seen["status"] == "training" and seen["command"] == [*common, "--out", str(folder)] and seen["sheets"]
    assert os.getsid(launch.number) != os.getsid(0)  # a signal to the server's terminal does not reach it
    fresh.launches.pause(folder)
    until(lambda: studio.runs.describe(folder)["status"] == "paused")
    assert process.find(folder) is None and 0 < studio.runs.describe(folder)["images"] < 2400

    studio.launches.start(folder, ["limner", "train", "--resume", str(folder)], str(squares), "dcgan", "generator")
    until(lambda: studio.runs.describe(folder)["status"] == "finished")
    unbroken = home / "unbroken"
    subprocess.run([*studio.launches.program, *common[1:], "--out", str(unbroken), "--quiet"], check=True, capture_output=True)
    one, two = (load_file(run / "weights.safetensors") for run in (folder, unbroken))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_failed_training_says_why(client: Any, home: Path) -> None:
    made = client.post("/api/train", json={"source": "/nowhere", "name": "lost"}).json()
    state = until(lambda: (run := client.get(f"/api/runs/{made['id']}").json()["run"])["status"] == "failed" and run)
    assert "does not exist" in state["message"]
    assert "does not exist" in client.get(f"/api/runs/{made['id']}/output").json()["text"]


def test_a_prepared_process_ends_with_the_server(studio: Studio) -> None:
    studio.launches.standby = [sys.executable, "-c", STANDBY]
    studio.launches.prepare()
    child = studio.launches._ready
    assert child is not None
    until(lambda: child.poll() is None, 5)
    assert child.stdin
    child.stdin.close()  # as when the server is killed
    assert child.wait(60) == 0


def test_pausing_what_does_not_train_is_refused(client: Any) -> None:
    answer = client.post(f"/api/runs/{run_id(client)}/pause")
    assert answer.status_code == 400 and "Nothing is training" in answer.json()["error"]["message"]


def test_suggestions_are_folders_zips_and_samples(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cars.zip").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden").mkdir()
    assert dataset.complete(f"{tmp_path}/ca") == [f"{tmp_path}/cars.zip", f"{tmp_path}/cats/"]
    assert dataset.complete(f"{tmp_path}/") == [f"{tmp_path}/cars.zip", f"{tmp_path}/cats/"]
    assert dataset.complete("fash")[:1] == ["fashion"] and dataset.complete("/nowhere/x") == []


def test_edges_of_a_folder_become_pairs_that_a_translator_takes(client: Any, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    job = client.post("/api/edges", json={"source": str(folder)}).json()
    assert job["command"].startswith("limner edges ")
    made = until(lambda: (state := client.get(f"/api/jobs/{job['job']}").json())["state"] == "done" and state)["result"]
    assert len(list(Path(made["first"]).glob("*.png"))) == len(list(Path(made["second"]).glob("*.png"))) == 4
    answer = client.post("/api/train/command", json={"source": made["first"], "second": made["second"], "recipe": "pix2pix"}).json()
    assert f"train {made['first']} {made['second']} --recipe pix2pix" in answer["command"]
