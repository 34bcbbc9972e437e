"""Human studies: plans, progress that survives a kill, results and reports, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from limner.apps.study import report, store
from limner.apps.study import run as studies
from limner.apps.study.pictures import on_white
from limner.apps.study.plan import FAKE, FIRST, PRACTICE, REAL, Pool, plan, repeated
from limner.apps.study.results import convincing, results
from limner.apps.study.session import OutOfTurn, Session, Unknown
from limner.apps.study.store import Answer, Study
from limner.cli import main
from study_bot import noise_study

KEY = bytes(32)


def answer_all(session: Session, name: str, choose: object = None, stop: int | None = None) -> None:
    """Answer as a rater; choose: a function of the trial's rows, else always FAKE."""
    progress = session.start(name)
    while progress.trial and progress.done != stop:
        choice = choose(progress.trial.items) if callable(choose) else 1
        session.answer(progress.rater.id, progress.trial.id, choice, 1.0)


# ---- plans -------------------------------------------------------------------------------------------------------------


def test_a_plan_has_practice_balanced_kinds_and_repeats_of_earlier_trials() -> None:
    kinds = np.random.default_rng(0).permutation(np.repeat([REAL, FAKE], 103))
    trials = plan(Pool(kinds, False), 50, KEY, 0)
    practice, test = trials[:PRACTICE], trials[PRACTICE:]
    assert all(t.practice for t in practice) and not any(t.practice for t in test)
    assert Counter(int(kinds[t.items[0]]) for t in practice) == {REAL: 3, FAKE: 3}
    first = [t for t in test if t.repeats is None]
    again = [t for t in test if t.repeats is not None]
    assert Counter(int(kinds[t.items[0]]) for t in first) == {REAL: 50, FAKE: 50}
    assert Counter(int(kinds[t.items[0]]) for t in again) == {REAL: 5, FAKE: 5} and repeated(50) == 5
    assert all(trials[t.repeats or 0].items == t.items for t in again)
    assert len({t.items for t in first} | {t.items for t in practice}) == 106, "nothing is shown twice but the repeats"


def test_ids_are_unique_and_do_not_repeat_between_raters_or_views() -> None:
    pool = Pool(np.repeat([REAL, FAKE], 23), False)
    trials = [t for rater in range(4) for t in plan(pool, 10, KEY, rater)]
    ids = [i for t in trials for i in (t.id, *t.pictures)]
    assert len(set(ids)) == len(ids) and all(len(i) == 32 for i in ids)
    assert plan(pool, 10, KEY, 1) == plan(pool, 10, KEY, 1), "a plan is found again after a restart"
    assert [t.items for t in plan(pool, 10, KEY, 1)] != [t.items for t in plan(pool, 10, b"1" * 32, 1)]


def test_raters_take_pictures_in_turn_and_then_again() -> None:
    pool = Pool(np.repeat([REAL, FAKE], [3 + 20, 3 + 40]), False)
    seen = [{t.items[0] for t in plan(pool, 20, KEY, rater) if not t.practice} for rater in range(3)]
    fakes = [{row for row in rows if pool.kinds[row] == FAKE} for rows in seen]
    reals = [{row for row in rows if pool.kinds[row] == REAL} for rows in seen]
    assert not fakes[0] & fakes[1] and fakes[0] == fakes[2]
    assert reals[0] == reals[1], "of 20 real pictures, all judge the same"


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_small_plans(count: int) -> None:
    trials = plan(Pool(np.repeat([REAL, FAKE], 3 + count), False), count, KEY, 0)
    assert len([t for t in trials if not t.practice and t.repeats is None]) == 2 * count
    assert all(t.repeats is None or t.repeats < i for i, t in enumerate(trials))


def test_sides_of_pairs_are_balanced_and_rows_belong_together() -> None:
    trials = plan(Pool(np.repeat([0, 1], 100), True), 100, KEY, 0)
    assert len(trials) == 110 and not any(t.practice for t in trials)
    assert sum(t.items[0] < 100 for t in trials) == 55
    assert all(abs(t.items[0] - t.items[1]) == 100 for t in trials)


def test_the_order_says_nothing_about_the_kind() -> None:
    """Over many raters, fakes are as frequent at each position, and after a fake as after a real picture."""
    kinds = np.repeat([REAL, FAKE], 3 + 30)
    rows = np.array([[kinds[t.items[0]] for t in plan(Pool(kinds, False), 30, KEY, r) if not t.practice] for r in range(400)])
    assert np.abs(rows.mean(0) - 0.5).max() < 0.11  # 4.4 standard errors, of 66 positions
    after_fake = rows[:, 1:][rows[:, :-1] == FAKE].mean()
    assert 0.46 < after_fake < 0.5, "without replacement: slightly less than a half"


# ---- progress ------------------------------------------------------------------------------------------------------------


def test_a_rater_goes_on_after_a_kill_in_the_middle_of_a_write(tmp_path: Path) -> None:
    study = noise_study(tmp_path, 5, 2)
    session = Session(study)
    answer_all(session, "Ann", stop=9)
    rater = session.start("Ann").rater
    with (tmp_path / store.ANSWERS).open("ab") as file:  # a kill: no close, and half a line
        file.write(b'{"rater": 0, "posi')
    again = Session(store.load(tmp_path))
    progress = again.start(" ann ")
    assert progress.rater == rater and progress.done == 9
    assert progress.trial == plan(study.pool, 5, study.key, 0)[9]
    answer_all(again, "Ann")
    assert again.progress(rater.id).trial is None
    answers = store.answers(tmp_path)
    assert [a.position for a in answers] == list(range(PRACTICE + 14)), "each question has one answer"


def test_every_answer_is_on_the_disk_when_it_is_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    session, synced = Session(noise_study(tmp_path, 5, 1)), []
    real = os.fsync

    def fsync(number: int) -> None:
        real(number)
        synced.append((tmp_path / store.ANSWERS).read_bytes().count(b"\n"))

    monkeypatch.setattr(os, "fsync", fsync)
    answer_all(session, "", stop=4)
    assert synced == [0, 1, 2, 3, 4]  # the rater, then each answer


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    session = Session(noise_study(tmp_path, 5, 1))
    answer_all(session, "A", stop=3)

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ValueError, match="disk is full"):
            answer_all(session, "A", stop=4)
    assert session.start("A").done == 3 and len(store.answers(tmp_path)) == 3
    answer_all(session, "A", stop=5)
    assert [a.position for a in store.answers(tmp_path)] == [0, 1, 2, 3, 4]


def test_answers_out_of_turn_and_unknown_ids(tmp_path: Path) -> None:
    session = Session(noise_study(tmp_path, 5, 1))
    progress = session.start("A")
    trial = progress.trial
    assert trial is not None
    feedback = session.answer(progress.rater.id, trial.id, FAKE, 1.0)
    assert feedback is not None and feedback.correct == (session.study.pool.kinds[trial.items[0]] == FAKE)
    with pytest.raises(OutOfTurn):
        session.answer(progress.rater.id, trial.id, REAL, 1.0)
    for bad in (lambda: session.progress("0" * 32), lambda: session.row("0" * 32)):
        with pytest.raises(Unknown):
            bad()
    for choice, seconds in ((2, 1.0), (0, -1.0), (0, float("nan"))):
        with pytest.raises(ValueError, match=r"\.$"):
            session.answer(progress.rater.id, progress.trials[1].id, choice, seconds)
    with pytest.raises(ValueError, match="40 characters"):
        session.start("x" * 41)
    assert session.start("").rater != session.start("").rater, "without a name, everyone is new"


def test_one_process_serves_a_study(tmp_path: Path) -> None:
    study = noise_study(tmp_path, 5, 1)
    with store.locked(study.folder), pytest.raises(ValueError, match="Another process"), store.locked(study.folder):
        pass


# ---- results -------------------------------------------------------------------------------------------------------------


def given(rater: int, position: int, truth: int, choice: int, repeats: int | None = None, practice: bool = False) -> Answer:
    return Answer(rater, position, (position if repeats is None else repeats,), truth, choice, -1, 1.0 + position, practice, repeats, 0.0)


def test_results_by_hand() -> None:
    answers = [
        given(0, 0, FAKE, REAL, practice=True),  # counts for nothing
        given(0, 1, FAKE, REAL), given(0, 2, FAKE, FAKE), given(0, 3, REAL, REAL), given(0, 4, REAL, FAKE),
        given(0, 5, REAL, REAL), given(0, 6, REAL, REAL),
        given(0, 7, FAKE, FAKE, repeats=1), given(0, 8, FAKE, FAKE, repeats=2),
    ]  # fmt: skip
    found = results(answers, pairs=False)
    assert found.rates["error_fakes"].value == 0.5 and found.rates["error_reals"].value == 0.25
    assert found.rates["error"].value == pytest.approx(0.375) and found.rates["error"].raters is None
    assert found.consistency is not None and found.consistency.value == 0.5
    assert found.seconds["all"] == 4.5 and found.raters == 1
    shown = {one.rows: (one.chosen, one.n) for one in found.shown}
    assert shown[(1,)] == (1, 2) and shown[(2,)] == (0, 2), "the sheet counts repeats too"
    assert [one.rows for one in convincing(found.shown, FAKE, True, 9)] == [(1,)]
    assert [one.rows for one in convincing(found.shown, FAKE, False, 9)] == [(2,), (1,)]
    with pytest.raises(ValueError, match="Nobody"):
        results(answers[:1], pairs=False)


def test_the_run_that_is_preferred_wins_whatever_its_side(tmp_path: Path) -> None:
    study = noise_study(tmp_path, 20, 3, pairs=True)
    session = Session(study)
    for name in "abc":
        answer_all(session, name, lambda items: 0 if study.pool.kinds[items[0]] == FIRST else 1)
    found = report.write_report(study)
    assert found.rates["win_rate"].value == 1 and found.consistency is not None and found.consistency.value == 1
    assert found.left is not None and found.left.value == 0.5
    assert found.finished == 3 and "prefer photos" in report.summary(study, found)
    assert all(one.rows[0] < one.rows[1] for one in found.shown), "the first run's picture comes first"


def test_the_report_has_files_numbers_and_no_names(tmp_path: Path) -> None:
    study = noise_study(tmp_path, 10, 3)
    session = Session(study)
    rng = np.random.default_rng(0)
    for name in ("Somebody", "Else", "Third"):
        answer_all(session, name, lambda items: int(rng.integers(2)))
    found = report.write_report(study)
    document = json.loads((tmp_path / report.FIGURES).read_text())
    assert document["error"]["value"] == found.rates["error"].value and document["raters"] == document["finished"] == 3
    text = (tmp_path / report.REPORT).read_text()
    assert "95 % over raters" in text and not any(name in text + json.dumps(document) for name in ("Somebody", "Else", "Third"))
    with Image.open(tmp_path / report.SHEET) as sheet:
        assert sheet.mode == "RGB" and sheet.width > 500


def test_names_of_folders_are_text_in_the_report(tmp_path: Path) -> None:
    study = noise_study(tmp_path, 5, 1)
    settings = store.Settings(**{**study.settings.__dict__, "names": ("<img src=x>", "[a](b)|*")})
    study = Study(tmp_path, settings, study.pictures, study.pool)
    session = Session(study)
    answer_all(session, "A")
    text = report.markdown(study, report.write_report(study))
    assert "<img" not in text.replace("\\<", "") and "[a](b)" not in text


def test_alpha_is_laid_on_white() -> None:
    rgba = np.array([[[[10]], [[20]], [[30]], [[255]]], [[[10]], [[20]], [[30]], [[0]]], [[[0]], [[0]], [[0]], [[128]]]], np.uint8)
    assert on_white(rgba)[:, :, 0, 0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]


# ---- from runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "squares"
    limner.train(squares, images=64, recipe="spectral", changes={"generator.width": 8, "discriminator.width": 8}, out=out, quiet=True)
    return out


def test_a_study_of_a_run_is_made_once_and_continued(run: Path, squares: Path, tmp_path: Path) -> None:
    model, folder = limner.load(run, "cpu"), tmp_path / "study"
    study = studies.prepare(folder, [model], str(squares), count=8, raters=3)
    assert study.pictures.shape == (2 * (8 * 3 + 3), 1, 16, 16) and study.settings.names == ("squares.npz", "squares")
    real = study.pictures[study.pool.kinds == REAL]
    with np.load(squares) as arrays:
        known = {picture.tobytes() for picture in arrays["images"]}
    assert all(picture.tobytes() in known for picture in real), "real pictures of the model's size are not changed"
    assert not any(picture.tobytes() in known for picture in study.pictures[study.pool.kinds == FAKE])
    again = studies.prepare(folder, [model], str(squares), count=8, raters=3)
    assert again.settings == study.settings and np.array_equal(again.pictures, study.pictures)
    with pytest.raises(ValueError, match="another --out"):
        studies.prepare(folder, [model], str(squares), count=9, raters=3)


def test_two_generators_and_what_is_refused(run: Path, squares: Path, tmp_path: Path) -> None:
    model = limner.load(run, "cpu")
    study = studies.prepare(tmp_path / "pairs", [model, model], None, count=6, raters=2)
    assert study.pool.pairs and len(study.pictures) == 24 and study.settings.names == ("squares (1)", "squares (2)")
    assert not np.array_equal(study.pictures[:12], study.pictures[12:])
    for models, data, options, words in (
        ([model], None, {}, "--data"), ([model, model], str(squares), {}, "leave --data out"),
        ([model], str(squares), {"count": 0}, "from 1 to"), ([model], str(squares), {"count": 94}, "--pictures 93 or fewer"),
        ([model, model], None, {"truncation": 0.5}, "--truncation"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            studies.prepare(tmp_path / "none", models, data, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_damaged_and_missing_studies(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no study"):
        store.load(tmp_path)
    noise_study(tmp_path, 5, 1)
    (tmp_path / store.PICTURES).write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ValueError, match="damaged"):
        store.load(tmp_path)
    (tmp_path / store.SETTINGS).write_text('{"format": 9}')
    with pytest.raises(ValueError, match="damaged"):
        store.load(tmp_path)


# ---- the command -----------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["study", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_the_command_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(noise_study(tmp_path / "study", 10, 2))
    for name in "ab":
        answer_all(session, name)
    assert command(tmp_path / "study", "--report") == 0
    shown = capsys.readouterr().out
    assert "error on fakes" in shown and "50.0 %" in shown and "report.md" in shown


def test_what_the_command_refuses(run: Path, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise_study(tmp_path / "empty", 5, 1)
    for arguments, words in (
        ((tmp_path / "empty", "--report"), "Nobody has judged"), ((run, "--report"), "There is no study"),
        ((tmp_path / "nothing", "--report"), "There is no folder"), ((run,), "--data"),
        ((run, "--data", squares, "--host", "0.0.0.0", "--out", tmp_path / "s", "--pictures", "5"), "a key is needed"),
        ((run, "--data", squares, "--out", run), "belongs to the run itself"),
        ((tmp_path / "empty", "--port", "99999"), "A port is a number"),
        ((tmp_path / "empty", "--pictures", "9", "--seed", "1"), "leave --pictures and --seed out"),
        ((tmp_path / "empty", "--report", "--data", squares), "leave --data out"),
    ):  # fmt: skip
        assert command(*arguments) == 2, arguments
        assert words in capsys.readouterr().err, arguments
