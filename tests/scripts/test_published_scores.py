"""Test human-normalised and published Atari scores."""

from __future__ import annotations

import csv

import pytest

from scripts.report.published_scores import DATA, _scores_by_game, human_normalized, published_scores


def test_human_normalised_score_of_pong() -> None:
    assert human_normalized("ALE/Pong-v5", -20.7) == pytest.approx(0.0)
    assert human_normalized("ALE/Pong-v5", 14.6) == pytest.approx(1.0)
    assert human_normalized("CartPole-v1", 500.0) is None
    assert human_normalized("ALE/Tetris-v5", 5.0) is None
    assert len(_scores_by_game()) == 57


def test_published_scores_are_of_one_protocol_and_best_first() -> None:
    classic, sticky = published_scores("ALE/Pong-v5", "classic"), published_scores("ALE/Pong-v5", "machado")
    assert {line.sticky for line in classic} == {"no"}
    assert {line.sticky for line in sticky} == {"yes"}
    assert [line.score for line in classic] == sorted((line.score for line in classic), reverse=True)
    by_agent = {line.agent: (line.score, line.frames) for line in classic}
    assert by_agent["DQN"] == (18.9, "200M")  # Mnih et al. 2015
    assert by_agent["Rainbow"] == (20.9, "200M")  # Hessel et al. 2018
    assert all(line.source and line.protocol for line in (*classic, *sticky))
    assert published_scores("ALE/Pong-v5", "native") == published_scores("CartPole-v1", "classic") == []


def test_every_column_of_scores_is_described() -> None:
    with open(DATA / "atari_columns.csv", newline="", encoding="utf-8") as file:
        described = [line["column"] for line in csv.DictReader(file)]
    assert sorted(described) == sorted(_scores_by_game()["Pong"].keys() - {"game", "random", "human"})
