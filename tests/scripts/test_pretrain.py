"""pretrain.py: every task collects, trains, compares with baselines and saves an encoder to evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from networks.encoders import store
from networks.supervised import espeak
from networks.supervised.data import DataError
from scripts.supervised.tasks import games, registry
from scripts.supervised.tasks.base import DataOptions
from tests import walks
from tests.scripts.inside import assert_one_line, call

TINY = {"digits": 300, "atari-ram": 120, "atari-motion": 120, "mission-slots": 300, "translate-zh-en": 300,
        "translate-en-fr": 300, "translate-fr-en": 300, "translate-en-zh": 300, "speech-commands": 120,
        "speech-to-text": 60, "speech-slots": 60, "inverse-dynamics": 120, "game-recognition": 60, "cloning": 200,
        "feedback": 300, "game-sounds": 60}  # fmt: skip
SLOW = ("atari-motion", "translate-fr-en", "translate-en-zh")
"""Tasks that differ from another one in their data only."""
BREAKOUT = dict.fromkeys(("atari-ram", "atari-motion", "inverse-dynamics", "game-sounds"), ("--env", "ALE/Breakout-v5"))
"""Random play loses a game of Breakout in a fifth of the steps that it takes in Pong, and splits are of whole games."""


def espeak_works() -> bool:
    try:
        return len(espeak.synthesize("go")) > 0
    except DataError:
        return False


VOICE = espeak_works()


def pretrain(*words: object) -> Any:
    return call("pretrain", *words)


def test_every_task_is_tested() -> None:
    assert set(TINY) | {"images", "texts", "rows"} == set(registry.TASKS)  # those in test_disk.py


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TINY])
def test_a_task_is_trained_saved_and_evaluated_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games.Cloning, "test_games", 8)
    if name.startswith("speech") and not VOICE:
        pytest.skip("no espeak-ng is installed")
    run = tmp_path / "run"
    words = ("--examples", TINY[name], "--epochs", 1, "--threads", 1, "--run-dir", run, *BREAKOUT.get(name, ()))
    done = pretrain(name, *words)
    assert done.code == 0, done.err
    assert "random frozen trunk" in done.out
    assert ("goal" in done.out) == bool(
        registry.make_task(name).goals_for("ALE/Breakout-v5" if name in BREAKOUT else None)
    )
    assert ("success" in done.out) == (name == "cloning")  # metrics of playing are in the table
    report = json.loads((run / "encoder" / "report.json").read_text())
    config = json.loads((run / "encoder" / "config.json").read_text())
    assert len(config["data"]["fingerprints"]) == 3
    assert config["git"]["commit"]
    done = pretrain("evaluate", run)
    assert done.code == 0, done.err
    again = json.loads(done.out.splitlines()[-1])
    assert again["same_examples"]
    for key in registry.task_class(name).headline:
        assert again[key] == pytest.approx(report["test"][key], abs=1e-6)
    done = pretrain("compare", run)
    assert done.code == 0, done.err
    assert name in done.out
    assert_one_line(pretrain(name, *words), 2, "is taken")


def test_goals_depend_on_the_environment() -> None:
    ram, inverse, clone = (registry.make_task(name) for name in ("atari-ram", "inverse-dynamics", "cloning"))
    assert ram.goals_for(None) == ram.goals_for("ALE/Pong-v5")
    assert [(goal.metric, goal.threshold) for goal in ram.goals_for("ALE/Freeway-v5")] == [("r2", 0.85)]
    assert inverse.goals_for("ALE/Freeway-v5") == inverse.goals_for(None)
    assert registry.make_task("atari-motion").goals_for("ALE/Freeway-v5") == ()
    assert clone.goals_for(None)
    assert clone.goals_for("BabyAI-GoToObj-v0") == ()


def test_probing_compares_with_untrained_features(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert pretrain("digits", "--epochs", 6, "--threads", 1, "--no-baselines", "--run-dir", run).code == 0
    done = pretrain("probe", run)
    assert done.code == 0, done.err
    lines = {line.split("  ")[0].strip(): line.split() for line in done.out.splitlines() if "features" in line}
    assert float(lines["trained, frozen features"][-2]) > float(lines["untrained features"][-2])


def test_the_learning_rate_range_test(tmp_path: Path) -> None:
    words = ("--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", tmp_path / "run")
    done = pretrain("digits", "--lr-find", *words)
    assert done.code == 0, done.err
    rate = json.loads((tmp_path / "run" / "encoder" / "config.json").read_text())["config"]["learning_rate"]
    assert f"learning rate {rate:.2g}: a tenth" in done.out
    assert 1e-6 < rate < 0.1


def test_the_confusion_matrix_is_drawn(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert pretrain("digits", "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", run).code == 0
    assert (run / "confusion_digit.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_seed_gives_the_same_encoder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        words = ("--examples", 200, "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", tmp_path / name)
        assert pretrain("mission-slots", *words).code == 0
    assert store.load(tmp_path / "a").sha256 == store.load(tmp_path / "b").sha256


BAD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no task": ((), ("name a task: digits",)),
    "unknown": (("digit",), ("did you mean digits?",)),
    "option": (("digits", "--epoch", "3"), ("digits has no option --epoch; did you mean --epochs?",)),
    "value": (("digits", "--epochs", "0"), ("--epochs cannot be 0",)),
    "examples": (("digits", "--examples", "3"), ("at least 50",)),
    "architecture": (("digits", "--arch", "natur"), ("there is no architecture 'natur'",)),
    "other modality": (("digits", "--arch", "gru"), ("takes token ids",)),
    "augmentation": (("mission-slots", "--examples", "100", "--augment", "shift"), ("available: words",)),
    "data": (("digits", "--data", "x"), ("takes no --data",)),
    "game for digits": (("digits", "--env", "ALE/Pong-v5"), ("digits takes no --env",)),
    "data of a game": (("atari-motion", "--data", "x"), ("atari-motion takes no --data",)),
    "spoken slots": (("speech-slots", "--data", "x"), ("speech-slots takes no --data",)),
    "game": (("atari-ram", "--env", "ALE/Tennis-v5"), ("no RAM annotations for ALE/Tennis-v5", "ALE/Pong-v5")),
    "no game": (("atari-ram", "--env", "ALE/Pog-v5"), ("ALE/Pong-v5",)),
    "no Atari game": (("game-recognition", "--env", "CartPole-v1"), ("game-recognition takes no --env",)),
    "cloning of numbers": (("cloning", "--env", "CartPole-v1"), ("the bot plays BabyAI only, not CartPole-v1",)),
    "cloning of nothing": (("cloning", "--data", "nowhere"), ("nowhere has no recorded games",)),
    "texts balanced": (
        ("translate-fr-en", "--examples", "300", "--sampler", "balanced"),
        ("is for classes, not for sequences",),
    ),
    "no example left": (("translate-fr-en", "--examples", "100"), ("split is empty; give more --examples",)),
    "rows of nothing": (("rows",), ("rows needs a table: --data FILE.csv",)),
    "rows of no file": (("rows", "--data", "nowhere.csv"), ("nowhere.csv is not a file",)),
    "stray word": (("digits", "runs/x"), ("cannot read runs/x; options begin with --",)),
    "nothing to evaluate": (("evaluate",), ("takes folders",)),
    "no encoder": (("evaluate", "nowhere"), ("holds no encoder",)),
    "option of evaluate": (("evaluate", "x", "--epochs", "3"), ("has no option --epochs",)),
}


def test_an_encoder_of_another_origin_is_refused(tmp_path: Path) -> None:
    encoder = store.build("small-cnn", gym.spaces.Box(0, 255, (1, 8, 8), np.uint8))
    store.save(tmp_path / "encoder", encoder, {}, {"task": "digits"}, {})
    for command in ("evaluate", "probe", "compare"):
        assert_one_line(pretrain(command, tmp_path), 2, "was not trained by this version of pretrain.py")


def test_digits_imports_supervised_code_only(tmp_path: Path) -> None:
    files = walks.imported(
        "pretrain", "digits", "--examples", "100", "--epochs", "1", "--threads", "1", "--run-dir", str(tmp_path)
    ).files
    assert len(files) < 45
    assert {file for file in files if file.startswith("envs/")} == {"envs/errors.py"}
    tasks = {Path(file).stem for file in files if file.startswith("scripts/supervised/tasks/")}
    assert tasks == {"base", "digits", "registry"}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(name: str, tmp_path: Path) -> None:
    words, fragments = BAD[name]
    run_dir = () if words[:1] == ("evaluate",) else ("--run-dir", tmp_path / "run")
    assert_one_line(pretrain(*words, *run_dir), 2, *fragments)
    assert not (tmp_path / "run").exists()


def test_an_untrained_encoder_is_saved_as_the_control_of_a_transfer(tmp_path: Path) -> None:
    words = (
        "atari-ram",
        "--env",
        "ALE/Breakout-v5",
        "--examples",
        120,
        "--image-size",
        42,
        "--arch",
        "pong-small",
        "--threads",
        1,
    )
    runs = {name: tmp_path / name for name in ("untrained", "again", "trained")}
    for name, run in runs.items():
        more = ("--epochs", 2, "--batch-size", 16) if name == "trained" else ("--untrained",)
        done = pretrain(*words, *more, "--no-baselines", "--run-dir", run)
        assert done.code == 0, done.err
        assert "goal" not in done.out
    stored = {name: store.load(run) for name, run in runs.items()}
    assert stored["untrained"].encoder.spec.input["shape"] == [4, 42, 42]
    assert stored["untrained"].config["untrained"]
    assert not stored["trained"].config["untrained"]
    weights = {name: each.encoder.state_dict() for name, each in stored.items()}
    for key, value in weights["untrained"].items():
        assert torch.equal(value, weights["again"][key])
        same = torch.equal(value, weights["trained"][key])
        assert same == (".normalize." in key), key  # both are normalised by the same images
    report = json.loads((runs["untrained"] / "encoder" / "report.json").read_text())
    assert report["epochs"] == []
    done = pretrain("evaluate", runs["trained"])
    assert json.loads(done.out.splitlines()[-1])["same_examples"]


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    done = pretrain("digits", "--device", "abacus", "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, "--device must be cpu, cuda or auto, not abacus")


def test_ensembles_distillation_pruning_and_quantisation(tmp_path: Path) -> None:
    runs = [tmp_path / f"digits{seed}" for seed in range(2)]
    quick = ("--threads", 1, "--no-baselines", "--batch-size", 32)
    for seed, run in enumerate(runs):
        assert pretrain("digits", "--epochs", 3, "--seed", seed, *quick, "--run-dir", run).code == 0
    done = pretrain("ensemble", *runs)
    assert done.code == 0, done.err
    assert "ensemble of 2" in done.out
    student = tmp_path / "student"
    done = pretrain("digits", "--epochs", 2, "--distill", runs[0], *quick, "--run-dir", student)
    assert done.code == 0, done.err
    config = json.loads((student / "encoder/config.json").read_text())
    assert config["distilled_from"] == store.load(runs[0]).sha256
    small = tmp_path / "small"
    done = pretrain("simplify", runs[0], "--prune", 0.5, 0.9, "--quantize", "--epochs", 1, "--run-dir", small)
    assert done.code == 0, done.err
    lines = [line.split("  ")[0].strip() for line in done.out.splitlines()]
    assert lines[1:7] == ["original", "original, 8 bits", "50% pruned", "50% pruned, 8 bits", "90% pruned",
                          "90% pruned, 8 bits"]  # fmt: skip
    weights = torch.cat([part.flatten() for part in store.load(small).encoder.parameters() if part.dim() >= 2])
    assert 0.8 < float((weights == 0).float().mean()) < 0.97  # fine-tuning keeps pruned weights at 0
    again = pretrain("evaluate", small)
    assert again.code == 0, again.err
    report = json.loads((small / "encoder/report.json").read_text())
    assert json.loads(again.out.splitlines()[-1])["accuracy"] == pytest.approx(report["test"]["accuracy"], abs=0.01)
    assert_one_line(pretrain("simplify", runs[0], "--prune", 1.5), 2, "must be at least 0 and below 1")
    assert_one_line(pretrain("ensemble", runs[0]), 2, "takes at least two folders made by pretrain.py")
    assert_one_line(pretrain("evaluate", runs[0], "--epochs", 2), 2, "evaluate has no option --epochs")


def test_snapshots_of_schedule_cycles_form_an_ensemble(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--epochs", 4, "--cycles", 2, "--threads", 1, "--batch-size", 32)
    done = pretrain("digits", *words, "--no-baselines", "--run-dir", run)
    assert done.code == 0, done.err
    assert "trained, vote of 2 snapshots" in done.out
    voted = json.loads((run / "encoder/report.json").read_text())["vote of 2 snapshots"]
    paths = [run / "snapshots" / number for number in "12"]
    done = pretrain("ensemble", *paths)
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "ensemble of 2" in line]
    assert f"{voted['accuracy']:.3f}" in line
    first, second = (store.load(path) for path in paths)
    assert first.sha256 != second.sha256
    assert pretrain("probe", run).code == 0
    assert pretrain("simplify", run, "--prune", 0.5, "--epochs", 1).code == 0
    done = pretrain("translate-fr-en", *words, "--examples", 300, "--run-dir", tmp_path / "texts")
    assert_one_line(done, 2, "texts cannot be averaged")
    assert not (tmp_path / "texts").exists()


def test_training_starts_from_another_runs_encoder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    quick = ("--threads", 1, "--no-baselines", "--epochs", 1)
    assert pretrain("mission-slots", "--examples", 300, *quick, "--run-dir", first).code == 0
    words = ("mission-slots", "--examples", 300, *quick, "--from", first, "--learning-rate", 1e-9)
    done = pretrain(*words, "--run-dir", second)
    assert done.code == 0, done.err
    one, two = (store.load(run).encoder.state_dict() for run in (first, second))
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    assert store.load(second).config["from"] == {"task": "mission-slots", "sha256": store.load(first).sha256}
    assert_one_line(pretrain("digits", "--from", first, "--run-dir", tmp_path / "x"), 2, "expects int64 ids")
    assert_one_line(pretrain(*words, "--arch", "gru", "--run-dir", tmp_path / "x"), 2, "--from brings its own")
    done = pretrain("digits", "--distill", first, "--run-dir", tmp_path / "x")
    assert_one_line(done, 2, "was trained on mission-slots, not on digits")


def test_constant_features_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from networks.encoders.base import build
    from scripts.supervised.modules import feature_statistics

    torch.manual_seed(0)
    encoder = build("small-cnn", gym.spaces.Box(0, 255, (1, 8, 8), np.uint8), out_dim=10)
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    result = feature_statistics(encoder, x)
    assert result["dead"] < 0.5
    assert result["std"] > 0
    with torch.no_grad():
        encoder.fc[0].weight[:6] = 0.0  # type: ignore[index]
    assert feature_statistics(encoder, x)["dead"] >= 0.6
    monkeypatch.setattr("scripts.supervised.modules.feature_statistics", lambda encoder, x: {"dead": 0.75, "std": 0.0})
    done = pretrain("digits", "--untrained", "--no-baselines", "--threads", 1, "--run-dir", tmp_path / "run")
    assert "warning: 75% of the features are the same for every example" in done.out


def test_recorded_games_of_a_run_are_cloned(tmp_path: Path) -> None:
    words = ("ppo", "--env", "MinAtar/Breakout-v1", "--preset", "tiny", "--threads", 1, "--track", "disabled")
    assert call("train", *words, "--run-dir", tmp_path / "run").code == 0
    result = registry.make_task("cloning").collect(DataOptions(10_000, path=tmp_path / "run"))
    records = [json.loads(line) for line in (tmp_path / "run" / "replays" / "train.jsonl").read_text().splitlines()]
    assert sum(len(part) for part in result.splits) == sum(record["length"] for record in records)
    words = ("cloning", "--data", tmp_path / "run", "--arch", "minatar", "--epochs", 1, "--threads", 1)
    done = pretrain(*words, "--no-baselines", "--run-dir", tmp_path / "clone")
    assert done.code == 0, done.err
    assert store.load(tmp_path / "clone").encoder.spec.input["shape"] == [4, 10, 10]
    assert_one_line(pretrain("cloning", "--data", tmp_path, "--run-dir", tmp_path / "x"), 2, "has no recorded games")


def test_the_split_follows_from_the_data_seed_alone(tmp_path: Path) -> None:
    quick = ("digits", "--epochs", 1, "--threads", 1, "--no-baselines")
    runs = {}
    for name, words in {"a": (), "b": ("--seed", 1), "c": ("--data-seed", 1)}.items():
        runs[name] = tmp_path / name
        assert pretrain(*quick, *words, "--run-dir", runs[name]).code == 0
    config = {name: json.loads((run / "encoder" / "config.json").read_text()) for name, run in runs.items()}
    assert [config[name]["data_seed"] for name in "abc"] == [0, 0, 1]
    prints = {name: each["data"]["fingerprints"] for name, each in config.items()}
    assert prints["a"] == prints["b"]
    assert prints["a"][2] != prints["c"][2]
    assert store.load(runs["a"]).sha256 != store.load(runs["b"]).sha256
    assert pretrain("ensemble", runs["a"], runs["b"]).code == 0


LEAKS: dict[str, tuple[str, ...]] = {
    "ensemble": ("ensemble", "{own}", "{other}"),
    "distillation": ("digits", "--distill", "{other}", "--epochs", "1", "--no-baselines"),
    "start": ("digits", "--from", "{other}", "--epochs", "1", "--no-baselines"),
    "evaluation": ("evaluate", "{other}", "--examples", "500"),
    "probe": ("probe", "{other}", "--data-seed", "0"),
    "simplification": ("simplify", "{other}", "--data-seed", "0", "--prune", "0.5"),
}


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, quick = tmp_path_factory.mktemp("splits"), ("--epochs", 1, "--threads", 1, "--no-baselines")
    for seed, name in enumerate(("own", "other")):
        assert pretrain("digits", *quick, "--data-seed", seed, "--run-dir", folder / name).code == 0
    return {name: folder / name for name in ("own", "other")}


@pytest.mark.parametrize("name", LEAKS)
def test_a_test_that_can_hold_training_examples_is_refused(
    name: str, two_splits: dict[str, Path], tmp_path: Path
) -> None:
    words = [word.format(**two_splits) for word in LEAKS[name]]
    run_dir = ("--run-dir", tmp_path / "run") if words[0] == "digits" else ()
    assert_one_line(
        pretrain(*words, *run_dir), 2, str(two_splits["other"]), "was trained on another split (--data-seed 1"
    )
    assert not (tmp_path / "run").exists()


def test_runs_of_different_tasks_form_no_ensemble(two_splits: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "slots"
    words = ("--examples", 100, "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", run)
    assert pretrain("feedback", *words).code == 0
    assert_one_line(pretrain("ensemble", two_splits["own"], run), 2, "was trained on feedback", "runs of one task")
