"""Sweeps: W&B's own file, searched without an account, and the W&B labels of a suite's runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scripts.command_line.groups import train_settings
from scripts.experiments.sweep import make_study, propose, suggest
from scripts.experiments.sweep_file import SweepFile, read_sweep_file
from tests.scripts.inside import assert_one_line
from tests.scripts.runner import ROOT

SHIPPED = ROOT / "scripts" / "sweeps" / "ppo-cartpole.yaml"
TINY: dict[str, Any] = {
    "program": "scripts/train.py",
    "method": "grid",
    "metric": {"name": "eval/return_mean", "goal": "maximize"},
    "parameters": {"learning-rate": {"values": [0.001, 0.01]}, "normalize_advantage": {"values": [True, False]}},
    "command": ["${env}", "python", "${program}", "ppo", "--env", "CartPole-v1", "--preset=tiny", "--total-steps=400",
                "--track=online", "${args}"],
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def test_a_grid_is_trained_evaluated_ranked_and_not_repeated(bench: Any, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    words = ("sweep", write(tmp_path), "--eval-episodes", 2, "--out", out)
    done = bench(*words)
    assert done.code == 0, done.err
    assert len(bench.commands) == 4
    rows = json.loads(out.read_text())["rows"]
    trained = {(row["config"]["learning_rate"], row["config"]["normalize_advantage"]) for row in rows}
    assert trained == {(rate, normal) for rate in (0.001, 0.01) for normal in (True, False)}
    evaluations = [row["evaluation"] for row in rows]
    assert evaluations == sorted(evaluations, reverse=True)
    rate, normal = rows[0]["parameters"]["learning-rate"], rows[0]["parameters"]["normalize_advantage"]
    assert f"best: python scripts/train.py ppo --env CartPole-v1 --preset tiny --learning-rate={rate}" in done.out
    assert f"--normalize_advantage={normal}" in done.out
    assert bench(*words).code == 0
    assert bench.commands == []


def proposed(plan: SweepFile, count: int, seed: int) -> list[dict[str, Any]]:
    return [values for _, values in propose(make_study(plan, seed), plan, count)]


def test_the_shipped_file_draws_options_of_train() -> None:
    plan = read_sweep_file(SHIPPED)
    trials = proposed(plan, 50, seed=1)
    assert len(trials) == 50
    assert trials == proposed(plan, 50, seed=1) != proposed(plan, 50, seed=2)
    for trial in trials:
        config = train_settings("ppo", "CartPole-v1", None, [f"--{name}={value}" for name, value in trial.items()])
        assert config.normalize_advantage is trial["normalize-advantage"]
        assert 0.0003 <= config.learning_rate <= 0.01
        assert 4 <= config.epochs <= 20
    rates = np.log([trial["learning-rate"] for trial in proposed(plan, 400, seed=3)])
    assert np.mean(rates) == pytest.approx(np.log([0.0003, 0.01]).mean(), abs=0.15)  # 3 standard errors


@pytest.mark.parametrize(
    ("about", "low", "high"),
    [
        ({"min": 1, "max": 3}, 1, 3),
        ({"min": 0.5, "max": 2.0}, 0.5, 2.0),
        ({"distribution": "q_uniform", "min": 0, "max": 100, "q": 25}, 0, 100),
        ({"distribution": "q_log_uniform_values", "min": 16, "max": 64, "q": 16}, 16, 64),
        ({"values": [1, 2], "probabilities": [0.0, 1.0]}, 2, 2),
        ({"distribution": "categorical", "values": [1, 2, 4]}, 1, 4),
        ({"distribution": "constant", "value": 3}, 3, 3),
    ],
)
def test_each_distribution_stays_in_its_range(about: dict[str, Any], low: float, high: float) -> None:
    plan = SweepFile.model_validate({**TINY, "method": "random", "parameters": {"x": about}})
    study = make_study(plan, 0)
    values = {suggest(study.ask(), "x", plan.parameters["x"]) for _ in range(200)}
    assert min(values) >= low
    assert max(values) <= high
    if "q" in about:
        assert all(value % about["q"] == 0 for value in values)
    assert len(values) > 1 or low == high


def test_few_combinations_are_each_proposed_once() -> None:
    plan = SweepFile.model_validate({**TINY, "method": "random"})
    trials = proposed(plan, 9, seed=0)
    assert len({str(trial) for trial in trials}) == len(trials) == 4


def test_bayes_learns_from_finished_trials_and_repeats_itself() -> None:
    plan = SweepFile.model_validate({**TINY, "method": "bayes", "parameters": {"x": {"min": 0.0, "max": 1.0}}})

    def search(best: float) -> list[float]:
        study = make_study(plan, 0)
        for _ in range(40):
            ((trial, values),) = propose(study, plan, 1)
            study.tell(trial, -abs(values["x"] - best))
        return [trial.params["x"] for trial in study.trials]

    low, high = search(0.1), search(0.9)
    assert low == search(0.1)
    assert np.mean(low[-20:]) < 0.3
    assert np.mean(high[-20:]) > 0.7


def test_a_bayes_sweep_trains_one_trial_after_another_and_is_not_repeated(bench: Any, tmp_path: Path) -> None:
    parameters = {"learning-rate": {"min": 0.001, "max": 0.01}}
    file = write(tmp_path, method="bayes", run_cap=2, parameters=parameters)
    words = ("sweep", file, "--eval-episodes", 1, "--out", tmp_path / "sweep.json")
    assert bench(*words).code == 0
    assert len(bench.commands) == 2
    rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
    assert {row["label"] for row in rows} == {"trial 0", "trial 1"}
    assert len({row["config"]["learning_rate"] for row in rows}) == 2
    assert bench(*words).code == 0
    assert bench.commands == []


def test_without_optuna_the_pip_line_is_printed(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else find_spec(name))
    assert_one_line(bench("sweep", write(tmp_path)), 2, "pip install -c constraints.txt -e '.[sweep]'")


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "method": ({"method": "gird"}, ("method: Input should be 'grid', 'random' or 'bayes'",)),
    "bayes without a count": ({"method": "bayes"}, ("--count N",)),
    "hyperband": ({"early_terminate": {"type": "hyperband"}}, ("early_terminate cannot be followed here",)),
    "unknown key": ({"controller": 1}, ("controller: unknown key",)),
    "metric": ({"metric": {"name": "train/loss"}}, ("metric.name", "eval/return_mean")),
    "no parameters": ({"parameters": {}}, ("no parameters",)),
    "no command": ({"command": ["python", "x"]}, ("${args}",)),
    "no game": ({"command": ["${program}", "ppo", "--total-steps=9", "${args}"]}, ("--env ID",)),
    "endless grid": ({"parameters": {"epochs": {"min": 1, "max": 2}}}, ("a grid needs the values of epochs",)),
    "string": ({"parameters": {"learning-rate": {"min": "1e-4", "max": 1}}}, ("learning-rate.min", "0.0001")),
    "categories without values": (
        {"parameters": {"epochs": {"distribution": "categorical", "min": 1, "max": 2}}}, ("give value, values",),
    ),
    "no range": ({"parameters": {"epochs": {"min": 3, "max": 2}}}, ("parameters.epochs", "min and a max")),
    "probabilities": (
        {"parameters": {"epochs": {"values": [1, 2], "probabilities": [0.5]}}}, ("one for each of values",),
    ),
    "log of 0": (
        {"parameters": {"learning-rate": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, ("above 0",),
    ),
    "distribution": (
        {"parameters": {"epochs": {"distribution": "beta", "min": 0, "max": 1}}}, ("epochs.distribution", "q_uniform"),
    ),
    "field": ({"parameters": {"learning-rat": {"values": [1]}}}, ("did you mean --learning-rate",)),
    "no values": ({"parameters": {"epochs": {"values": []}}}, ("values must not be empty",)),
    "steps of 0": (
        {"parameters": {"epochs": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}}, ("q must be above 0",),
    ),
    "no algorithm": ({"command": ["${program}", "${args}"]}, ("must name an algorithm behind ${program}",)),
    "other program": ({"command": ["python", "mine.py", "${args}"]}, ("must run ${program}",)),
    "random without a count": ({"method": "random"}, ("--count N",)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_sweep_files_are_one_line(name: str, bench: Any, tmp_path: Path) -> None:
    changes, fragments = BAD[name]
    assert_one_line(bench("sweep", write(tmp_path, **changes)), 2, *fragments)
    assert not (tmp_path / "bench").exists()


def test_a_missing_or_invalid_file_is_one_line(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("- 1")
    assert_one_line(bench("sweep", tmp_path / "sweep.yaml"), 2, "it has no parameters")
    assert_one_line(bench("sweep", write(tmp_path), "--count", 0), 2, "--count must be at least 1, not 0")
    (tmp_path / "sweep.yaml").write_text("a: [1")
    assert_one_line(bench("sweep", tmp_path / "sweep.yaml"), 2, "is not YAML")
    assert_one_line(bench("sweep", tmp_path / "none.yaml"), 2, "cannot be read")
    assert_one_line(bench("sweep", write(tmp_path), "--total-steps", 9), 2, "sweep has no option --total-steps")


def test_a_suite_can_be_tracked_in_a_group(bench: Any, tmp_path: Path) -> None:
    words = ("learn", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--seeds", 1, "--total-steps", 200)
    done = bench(*words, "--eval-episodes", 0, "--track", "offline", "--group", "mine")
    assert done.code == 0, done.err
    (run,) = (path for path in (tmp_path / "bench").iterdir() if path.is_dir())
    assert json.loads((run / "config.json").read_text())["labels"]["group"] == "mine"
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
