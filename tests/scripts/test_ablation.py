"""Ablations: one component off at a time, all else equal, and scores and probabilities that mean something."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.presets import registry
from agents.value.dqn import DQN, DQNConfig
from scripts.experiments import ablation, training_jobs
from scripts.experiments.ablation import AblationLine, summarise_ablation
from scripts.experiments.results import ContenderResult, RunOutcome, summarise
from scripts.experiments.settings import Settings
from scripts.experiments.training_jobs import Contender
from tests.scripts.inside import assert_one_line, call

CHAIN = "joypad/Chain-v0"
QUICK = ("--preset", "tiny", "--total-steps", "400", "--eval-episodes", "2")


def test_ablate_switches_off_one_component_at_a_time(bench: Any, tmp_path: Path) -> None:
    out, more = tmp_path / "out.json", ("--", "--double", "--dueling", "--n-step", 3)
    done = bench("ablate", "dqn", "--env", CHAIN, "--seeds", 2, *QUICK, "--out", out, *more)
    assert done.code == 0, done.err
    result = json.loads(out.read_text())
    assert [line["label"] for line in result["summary"]] == ["dqn", *(
        f"without {name}" for name in ("double", "dueling", "n-step"))]  # fmt: skip
    full, *variants = (
        json.loads((Path(row["runs"][0]["folder"]) / "config.json").read_text()) for row in result["rows"]
    )
    changed = [
        {name: value for name, value in variant["config"].items() if value != full["config"][name]}
        for variant in variants
    ]
    assert changed == [{"double": False}, {"dueling": False}, {"n_step": 1}]
    assert result["summary"][0]["improvement"] is None
    table = done.out.splitlines()[-5:]
    for line in result["summary"][1:]:
        assert line["improvement"] is line["improvement_interval"] is None
        assert "needs 3 seeds a side" in next(row for row in table if row.startswith(f" {line['label']} "))
    # the full agent is the one of `learn`, and is not trained twice
    assert bench("learn", "dqn", "--env", CHAIN, "--seeds", 2, *QUICK, *more).code == 0
    assert bench.commands == []


def test_scores_of_several_games_are_put_on_one_scale() -> None:
    def lines(full: list[list[float]], variant: list[list[float]]) -> list[AblationLine]:
        scores = {"full": full, "variant": variant}
        return summarise_ablation({label: [np.array(game) for game in games] for label, games in scores.items()})

    full, worse = lines([[10, 30], [100, 100]], [[10, 10], [150, 50]])
    assert full.normalized_by == [20, 100]
    assert full.iqm == pytest.approx(1.0)  # of 0.5, 1, 1, 1.5
    assert worse.iqm == pytest.approx(0.5)  # of 0.5, 0.5, 0.5, 1.5
    assert worse.improvement is None  # two seeds a side
    assert worse.interval is not None
    assert worse.interval[0] == pytest.approx(0.5)
    one, _ = lines([[10, 30]], [[1, 2]])
    assert one.iqm == pytest.approx(20)  # a single game stays on its own scale
    below, other = lines([[-10, -30], [100, 100]], [[-5, -5], [50, 50]])
    assert below.iqm is other.iqm is None
    _, three = lines([[10, 20, 30], [100, 100, 100]], [[10, 10, 10], [50, 100, 150]])
    assert three.improvement == pytest.approx(np.mean([5 / 6, 0.5]))
    assert three.improvement_interval is not None
    assert three.improvement_interval[0] <= three.improvement <= three.improvement_interval[1]
    single, alone = lines([[10]], [[5]])
    assert single.interval is alone.improvement_interval is alone.improvement is None
    _, failed = lines([[10]], [[]])
    assert failed.iqm is failed.improvement is None


def result(label: str, scores: list[float]) -> ContenderResult:
    contender = Contender(label, "dqn", CHAIN, None, (), {"stop_return": None, "total_steps": 400})
    outcome = RunOutcome(0, None, None, 400, 1.0, 400.0, False, 9, "abc", None, "", None, None, None, None, None, "")
    return summarise(contender, [replace(outcome, seed=seed, score=score) for seed, score in enumerate(scores)])


@pytest.mark.parametrize(("runs", "shown"), [(2, "needs 3 seeds a side"), (3, "1.00")])
def test_an_ablation_shows_no_probability_below_three_seeds_a_side(runs: int, shown: str) -> None:
    by_label = {"dqn": [result("dqn", [2.0, 2.5, 3.0])], "without double": [result("without double", [1.0] * runs)]}
    summary = ablation.summarise_ablation({label: [game.scores for game in games] for label, games in by_label.items()})
    assert [line.improvement for line in summary] == [None, 1.0 if runs > 2 else None]
    table = ablation.ablation_table(summary, by_label)
    assert [*table.columns[4].cells] == ["-", shown]


@dataclass(frozen=True)
class Distributional(DQNConfig):
    """A config like C51's."""

    atoms: int = 51
    layer_norm: bool = False
    """A field that DQN lacks."""


@pytest.fixture
def distributional(monkeypatch: pytest.MonkeyPatch) -> Distributional:
    """An algorithm `dist` that differs from DQN in many fields."""
    config = Distributional(
        **(vars(registry.PRESETS["dqn", "classic"]) | {"dueling": True, "n_step": 4, "hidden": (32, 16), "gamma": 0.9})
    )
    monkeypatch.setitem(registry.ALGORITHMS, "dist", (Distributional, DQN))
    monkeypatch.setitem(registry.PRESETS, ("dist", "classic"), config)
    return config


def settings_with(*overrides: str, envs: tuple[str, ...] = ("CartPole-v1",)) -> Settings:
    return Settings(envs, range(1), 1000, overrides=overrides)


def test_without_its_distribution_an_algorithm_is_dqn_with_the_same_settings(distributional: Distributional) -> None:
    given = settings_with("--no-double", "--core", "lstm", "--stop-return", "9")
    assert ablation.components("dist", given) == ["dueling", "n-step", "distributional", "core"]
    full = training_jobs.resolve("dist", "CartPole-v1", None, given.overrides, 1000)
    variant = ablation.without("distributional", "dist", "CartPole-v1", given)
    assert variant.algorithm == "dqn"
    same = {name: value for name, value in asdict(full).items() if name in variant.config}
    assert same.keys() == {field for field in asdict(full) if field not in ("atoms", "layer_norm", "seed", "threads")}
    assert variant.config == same
    assert (same["double"], same["stop_return"], same["hidden"], same["core"]) == (False, 9.0, (32, 16), "lstm")


def test_a_component_that_cannot_be_removed_alone_is_left_out(distributional: Distributional) -> None:
    done = call("benchmark", "ablate", "dist", "--env", "CartPole-v1", "--list", "--", "--layer-norm")
    assert done.code == 0
    assert "left out: without distributional it would be dqn, which has no layer-norm" in done.out
    listed = [line.split()[0] for line in done.out.splitlines()[2:]]
    assert listed == ["double", "dueling", "n-step", "layer-norm"]
    assert "dist --layer-norm --n-step=1" in done.out


@pytest.mark.parametrize("algorithm", registry.OURS)
@pytest.mark.parametrize("env", ["CartPole-v1", "ALE/Pong-v5"])
def test_every_component_of_every_preset_can_be_switched_off_alone(algorithm: str, env: str) -> None:
    config = training_jobs.resolve(algorithm, env, None, (), 1000)
    used = [name for name, component in ablation.COMPONENTS.items() if component.used_by(config)]
    for name in used:
        variant = ablation.without(name, algorithm, env, settings_with(envs=(env,)))
        bare = training_jobs.resolve(variant.algorithm, env, None, variant.overrides, 1000)
        still = [other for other, component in ablation.COMPONENTS.items() if component.used_by(bare)]
        carried = {"burn-in"} if name == "core" else set()  # which means nothing without a memory
        assert set(used) - set(still) == {name, *(carried & set(used))}
        assert set(still) <= set(used)


def test_components_that_differ_between_games_are_refused(monkeypatch: Any) -> None:
    for family, double in (("classic", True), ("toy", False)):
        config = replace(registry.PRESETS["dqn", family], double=double)
        monkeypatch.setitem(registry.PRESETS, ("dqn", family), config)
    done = call("benchmark", "ablate", "dqn", "--env", "CartPole-v1", CHAIN, "--list")
    assert_one_line(done, 2, "not the same components", "CartPole-v1: double", f"{CHAIN}: none")
