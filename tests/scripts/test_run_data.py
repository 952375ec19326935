"""Test reading run folders, complete and damaged, and grouping runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.report.page import write_report
from scripts.report.run_data import (
    ReportError,
    comparable_groups,
    differing_values,
    group_runs,
    number_duplicates,
    read_run,
)
from tests.scripts.inside import call


def write_run(folder: Path, lines: list[str], seed: int = 0, fingerprint: str = "aaa", **config: object) -> Path:
    folder.mkdir(parents=True)
    card = {"env_id": "CartPole-v1", "protocol": {"name": "native"}, "fingerprint": fingerprint}
    meta = {"algo": "ppo", "env_id": "CartPole-v1", "seed": seed, "config": {"seed": seed, **config}, "card": card}
    (folder / "config.json").write_text(json.dumps(meta))
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def game(steps: int, score: float) -> str:
    return json.dumps({"env_steps": steps, "wall_seconds": steps / 10, "episode/return": score})


def test_reading_games_evaluations_and_the_last_time_shares(tmp_path: Path) -> None:
    share = '{"env_steps": 30, "wall_seconds": 3.5, "time/env_share": %s, "time/learn_share": 0.5}'
    evaluation = '{"env_steps": 40, "wall_seconds": 4.0, "eval/return_mean": 7.5}'
    run = read_run(write_run(tmp_path / "r", [game(10, 1), share % 0.1, game(20, 3), share % 0.25, evaluation, ""]))
    assert run.games.tolist() == [[10, 1.0, 1], [20, 2.0, 3]]
    assert (run.score, run.best_eval, run.env_steps, run.wall_seconds) == (2.0, 7.5, 40, 4.0)
    assert run.time_shares == {"env": 0.25, "learn": 0.5}
    assert run.notes == ()


def test_score_is_the_mean_of_the_last_hundred_games(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", [game(i, -1000 if i < 50 else i) for i in range(150)]))
    assert run.score == np.mean(range(50, 150))


def test_half_written_last_line_is_not_corruption(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run = read_run(write_run(tmp_path / "r", [game(10, 1), '{"env_steps": 20, "wall_sec']))
    assert len(run.games) == 1
    assert run.notes == ()
    assert not recwarn.list


@pytest.mark.parametrize("bad", ["{oops", '"text"', '{"env_steps": 5}', '{"env_steps": NaN, "wall_seconds": 1}'])
def test_corrupted_line_in_the_middle_is_named_and_skipped(tmp_path: Path, bad: str) -> None:
    folder = write_run(tmp_path / "r", [game(10, 1), bad, game(20, 2)])
    with pytest.warns(UserWarning, match=r"skipped corrupted line 2$"):
        run = read_run(folder)
    assert run.games[:, 2].tolist() == [1, 2]
    assert "line 2" in run.notes[0]


def test_bytes_that_are_not_text_are_a_corrupted_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [])
    (folder / "metrics.jsonl").write_bytes(game(10, 1).encode() + b"\n\x00\xff\xfe\n" + game(20, 2).encode() + b"\n")
    with pytest.warns(UserWarning, match="line 2"):
        assert len(read_run(folder).games) == 2


def test_nan_is_left_out(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", [game(10, 1), game(20, float("nan")), game(30, 3)]))
    assert run.games[:, 2].tolist() == [1, 3]
    assert run.env_steps == 30


def test_folders_that_are_not_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="not a folder"):
        read_run(tmp_path / "absent")
    (tmp_path / "plain").mkdir()
    with pytest.raises(ReportError, match=r"not a run: it has no config\.json"):
        read_run(tmp_path / "plain")
    (tmp_path / "plain" / "config.json").write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"):
        read_run(tmp_path / "plain")
    for text in ("[]", '{"algo": "x"}', '{"algo": "x", "env_id": "y", "card": {}}'):
        (tmp_path / "plain" / "config.json").write_text(text)
        with pytest.raises(ReportError, match="lacks"):
            read_run(tmp_path / "plain")


@pytest.mark.parametrize(("field", "value", "message"), [("seed", "7", "not an integer"), ("config", [1], "table")])
def test_a_field_of_another_type_is_refused(tmp_path: Path, field: str, value: object, message: str) -> None:
    folder = write_run(tmp_path / "r", [game(10, 1)])
    meta = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**meta, field: value}))
    with pytest.raises(ReportError, match=message):
        read_run(folder)


@pytest.mark.parametrize("lines", [[], [""], ['{"env_st']])
def test_a_run_without_metrics_is_refused(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(ReportError, match="has no metrics"):
        read_run(write_run(tmp_path / "r", lines))


def test_groups_are_runs_that_differ_only_in_their_seed(tmp_path: Path) -> None:
    made = [(0, 1e-3), (1, 1e-3), (0, 1e-4)]
    runs = [read_run(write_run(tmp_path / f"{s}{lr}", [game(9, s)], s, learning_rate=lr)) for s, lr in made]
    groups = group_runs(runs)
    assert [group.label for group in groups] == ["ppo · learning_rate=0.001", "ppo · learning_rate=0.0001"]
    assert [group.scores.tolist() for group in groups] == [[0.0, 1.0], [0.0]]


def test_groups_never_mix_fingerprints(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / f, [game(9, 1)], fingerprint=f)) for f in ("aaaaaaaa", "bbbbbbbb")]
    groups = group_runs(runs)
    assert [group.label for group in groups] == ["ppo · native aaaaaa", "ppo · native bbbbbb"]
    assert comparable_groups(groups) == [[groups[0]], [groups[1]]]


def test_equal_labels_are_numbered() -> None:
    assert number_duplicates(["a", "b", "a"]) == ["a #1", "b", "a #2"]


def test_differing_values_of_nested_tables() -> None:
    tables: list[dict[str, Any]] = [{"a": {"b": 1, "c": 2}, "d": 5}, {"a": {"b": 1, "c": 3}}]
    assert differing_values(tables) == {"a.c": [2, 3], "d": [5, "-"]}


def test_a_page_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no runs given"):
        write_report([], tmp_path / "page.html")


def test_a_run_with_a_link_that_leads_out_of_it_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ['{"env_steps": 1, "wall_seconds": 1.0}'])
    (run / "videos").mkdir()
    (run / "videos" / "copy.mp4").symlink_to(run / "metrics.jsonl")  # a link within the run is fine
    assert read_run(run).env_steps == 1
    (tmp_path / "secret.mp4").touch()
    (run / "videos" / "trained.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(ReportError, match=r"trained\.mp4 is a symbolic link that leads out of the folder"):
        read_run(run)


def test_later_evaluations_are_read_by_checkpoint_and_each_game_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ['{"env_steps": 1, "wall_seconds": 1.0}'])
    (run / "replays").mkdir()

    def line(steps: int, seed: int, score: float) -> str:
        game = {"extras": {"env_steps": steps}, "seed": seed, "ordinal": 0, "frame_hashes": [], "episode_return": score}
        return json.dumps(game) + "\n"

    games = [line(200, 1, 5.0), line(200, 2, 7.0), line(100, 1, 1.0), line(200, 1, 5.0), "{half a li"]
    (run / "replays" / "eval.jsonl").write_text("".join(games))
    one, other = read_run(run).evaluations
    assert (one.env_steps, one.returns, one.score) == (200, (5.0, 7.0), 6.0)
    assert (other.env_steps, other.returns) == (100, (1.0,))


def test_a_page_made_after_an_evaluation_shows_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--env", "CartPole-v1", "--preset", "tiny", "--track", "disabled", "--run-dir", run)
    assert call("train", "ppo", *words).code == 0
    assert "<h2>Evaluations</h2>" not in (run / "report.html").read_text()
    done = call("evaluate", run, "--episodes", 3, "--json")
    mean = json.loads(done.out)["return_mean"]
    assert call("compare", run, "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Evaluations</h2>" in page
    assert f"<b>{mean:.2f}</b>" in page
