"""The results book: the same run folders give the same files, and its best games can be replayed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from envs.action_replays import load_replays, previous_episodes, verify
from envs.make import make_env
from scripts.experiments import results_book
from scripts.experiments.results import ContenderResult, FinalEvaluation, RunOutcome
from scripts.experiments.results_book import BOOK, BestGame, Chapter, render
from tests.scripts.inside import assert_one_line

TINY = Chapter("tiny", ("ppo:tiny", "sb3-ppo:tiny"), "CartPole-v1", 400, seeds=2, overrides=("--gamma", "0.9"))
WRITTEN = sorted(path.stem for path in BOOK.glob("*.json"))


@pytest.fixture
def suite(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `benchmark.py suite` on one tiny chapter and a book of its own."""
    monkeypatch.setattr(results_book, "CHAPTERS", (TINY,))
    return lambda *words: bench("suite", *words, "--book", tmp_path / "book", "--eval-episodes", 3)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_run_folders_give_the_same_chapter(suite: Any, bench: Any, tmp_path: Path) -> None:
    done = suite()
    assert done.code == 0, done.err
    assert len(bench.commands) == 4
    files = contents(tmp_path / "book")
    replays = {"tiny__ppo-tiny.jsonl", "tiny__sb3-ppo-tiny.jsonl"}
    assert set(files) == {"README.md", "tiny.json", "curves/tiny.json", *replays}
    numbers = json.loads(files["tiny.json"])
    curves = json.loads(files["curves/tiny.json"])["curves"]
    runs = [(row["label"], run) for row in numbers["rows"] for run in row["runs"]]
    assert [(curve["label"], curve["seed"]) for curve in curves] == [(label, run["seed"]) for label, run in runs]
    for curve, (_, run) in zip(curves, runs, strict=True):
        assert curve["scores"][-1] == pytest.approx(run["score"], abs=1e-3)
        assert len(curve["scores"]) == len(curve["env_steps"]) <= run["games"]
        assert curve["env_steps"] == sorted(curve["env_steps"])
        assert curve["env_steps"][-1] <= run["env_steps"]
    for row in numbers["rows"]:
        assert [run["seed"] for run in row["runs"]] == [0, 1]
        for run in row["runs"]:
            assert f"train.py {row['algorithm']} --env CartPole-v1 --seed {run['seed']} " in run["command"]
            assert str(tmp_path) not in json.dumps(run)
            assert len(run["commit"]) == 40
            assert run["machine"]["cores"] > 0
            assert run["fingerprint"] == row["fingerprints"][0]
        best = max(score for run in row["runs"] for score in run["evaluation"]["returns"])
        assert row["best_game"]["score"] == best
    page = files["README.md"].decode()
    assert numbers["verdict"] in page
    assert "`--gamma" not in page
    assert str(tmp_path) not in page
    assert suite("tiny").code == 0
    assert bench.commands == []
    assert contents(tmp_path / "book") == files


def test_a_chapter_whose_run_fails_leaves_the_book_as_it_was(suite: Any, tmp_path: Path) -> None:
    assert suite().code == 0
    before = contents(tmp_path / "book")
    (run,) = (path for path in (tmp_path / "bench").glob("ppo__*s1__*") if path.is_dir())
    for path in (run / "checkpoints").rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    (run / "evaluation.json").unlink()
    done = suite()
    assert done.code == 1
    assert "their chapters were left as they were" in done.err
    assert contents(tmp_path / "book") == before


def test_unknown_chapters_are_refused_and_known_ones_listed(bench: Any, suite: Any, tmp_path: Path) -> None:
    assert_one_line(suite("tinny"), 2, "no chapter tinny; there are tiny")
    assert "ppo:tiny and sb3-ppo:tiny on CartPole-v1, 400 steps, 2 seeds" in suite("--list").out
    assert not (tmp_path / "book").exists()
    assert_one_line(bench("suite", "--total-steps", 3), 2, "benchmark.py suite has no option --total-steps")
    assert_one_line(bench("suite", "--book", Path(__file__) / "book"), 2, "is a file; give --book a folder")
    assert_one_line(suite("--", "--gamma", 0.5), 2, "suite takes no options after a --")


def test_the_page_follows_from_its_numbers() -> None:
    assert (BOOK / "README.md").read_text() == render(BOOK)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_results_have_the_keys_of_the_published_files(name: str) -> None:
    def keys(kind: type) -> list[str]:
        return [field.name for field in fields(kind)]

    for row in json.loads((BOOK / f"{name}.json").read_text())["rows"]:
        assert list(row) == [*keys(ContenderResult), "best_game"]
        assert list(row["best_game"]) == keys(BestGame)
        for run in row["runs"]:
            assert list(run) == keys(RunOutcome)
            assert list(run["evaluation"]) == keys(FinalEvaluation)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_best_games_of_the_book_can_be_replayed(name: str) -> None:
    for row in json.loads((BOOK / f"{name}.json").read_text())["rows"]:
        games = load_replays(BOOK / row["best_game"]["replay"])
        game = games[-1]
        assert game.episode_return == row["best_game"]["score"]
        assert game.fingerprint == row["fingerprints"][0]
        verify(game, previous_episodes(games, len(games) - 1), make_env)
