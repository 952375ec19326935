"""Suites train missing runs, resume interrupted ones, evaluate all, and compute the figures that they print."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.errors import ConfigError
from agents.presets import registry
from agents.run.run import lock
from scripts.benchmark import EXPERIMENTS
from scripts.command_line.options import options_of
from scripts.experiments import throughput, training_jobs
from scripts.experiments.throughput import Throughput
from scripts.report.run_data import read_run
from tests.scripts.inside import Ended, assert_one_line, call
from tests.scripts.runner import ROOT, forked

CHAIN = "joypad/Chain-v0"
QUICK = ("--preset", "tiny", "--total-steps", "400", "--eval-episodes", "2")


def latest(folder: Path) -> dict[str, Any]:
    name = (folder / "checkpoints" / "latest").read_text()
    return json.loads((folder / "checkpoints" / name / "state.json").read_text())


def configs(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text())["config"] for path in folder.glob("*/config.json")}


def test_learn_trains_and_evaluates_and_a_repeat_trains_nothing(bench: Any, tmp_path: Path) -> None:
    command = ("learn", "dqn", "ppo", "--env", CHAIN, "--seeds", 2, "--first-seed", 3, *QUICK)
    done = bench(*command, "--out", tmp_path / "one.json")
    assert done.code == 0, done.err
    assert len(bench.commands) == 4
    for words in ("[4/4] ppo on joypad/Chain-v0, seed 4: starts", "dqn on joypad/Chain-v0, seed 3: done in"):
        assert words in done.out
    result = json.loads((tmp_path / "one.json").read_text())
    assert {"command", "git", "machine", "versions", "settings", "rows", "failed"} <= result.keys()
    assert result["failed"] == {}
    assert [(row["algorithm"], row["env"]) for row in result["rows"]] == [("dqn", CHAIN), ("ppo", CHAIN)]
    for row in result["rows"]:
        runs = [read_run(Path(run["folder"])) for run in row["runs"]]
        assert [run.seed for run in runs] == [3, 4]
        assert [run["score"] for run in row["runs"]] == [run.score for run in runs]
        assert row["iqm"] == pytest.approx(np.mean([run.games[-100:, 2].mean() for run in runs]))
        assert row["interval"] == pytest.approx(sorted(run.score for run in runs))
        assert row["fingerprints"] == [runs[0].fingerprint]
        line = next(line for line in done.out.splitlines() if line.split()[:2] == [row["algorithm"], CHAIN])
        assert f"{row['iqm']:.2f}" in line
        assert f"{row['evaluation']:.2f}" in line
        best = max(row["runs"], key=lambda run: run["score"])
        assert f"{best['score']:.2f} (s{best['seed']})" in line
        verdict = json.loads(call("evaluate", runs[0].folder, "--episodes", 2, "--json").out)
        assert verdict["return_mean"] == row["runs"][0]["evaluation"]["return_mean"]
    again = bench(*command, "--out", tmp_path / "two.json")
    assert again.code == 0
    assert bench.commands == []
    assert "4 of 4 runs are trained already" in again.out
    assert json.loads((tmp_path / "two.json").read_text())["rows"] == result["rows"]


def test_other_settings_have_other_folders(bench: Any, tmp_path: Path) -> None:
    base = ("learn", "dqn", "--env", CHAIN, "--seeds", 1, "--preset", "tiny", "--eval-episodes", 0)
    for command in (
        (*base, "--total-steps", 200),
        (*base, "--total-steps", 300),
        (*base, "--total-steps", 300, "--", "--n-step", 2),
    ):
        assert bench(*command).code == 0
        assert len(bench.commands) == 1
    assert {(run["total_steps"], run["n_step"]) for run in configs(tmp_path / "bench").values()} == {
        (200, 1), (300, 1), (300, 2)
    }  # fmt: skip


def test_a_run_whose_preset_has_changed_is_not_passed_off_as_the_new_one(bench: Any, monkeypatch: Any) -> None:
    command = ("learn", "dqn", "--env", CHAIN, "--seeds", 1, *QUICK)
    assert bench(*command).code == 0
    changed = replace(registry.PRESETS["dqn", "toy"], learning_rate=0.123)
    monkeypatch.setitem(registry.PRESETS, ("dqn", "toy"), changed)
    done = bench(*command)
    assert_one_line(done, 2, "learning_rate was", "is 0.123", "--runs-dir")
    assert bench.commands == []


def test_a_resumed_run_ends_with_the_same_weights(bench: Any, tmp_path: Path) -> None:
    command = ("learn", "dqn", "--env", CHAIN, "--seeds", 1, *QUICK)
    assert bench(*command).code == 0
    (folder,) = (path.parent for path in (tmp_path / "bench").glob("*/config.json"))
    unbroken = latest(folder)
    older, newest = sorted(path.name for path in (folder / "checkpoints").glob("step_*"))
    assert newest == (folder / "checkpoints" / "latest").read_text()
    (folder / "checkpoints" / "latest").write_text(older)
    done = bench(*command)
    assert done.code == 0, done.err
    assert "resumes" in done.out
    assert bench.commands == [[sys.executable, str(training_jobs.SCRIPTS / "train.py"), "--resume", str(folder)]]
    assert latest(folder)["weights_sha256"] == unbroken["weights_sha256"]


def test_an_interrupt_stops_processes_and_a_repeat_resumes_them(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    words = ("learn", "ppo", "--env", "CartPole-v1", "--seeds", 1, "--preset", "tiny", "--total-steps", 15_000,
             "--eval-episodes", 0)  # fmt: skip
    more = ("--", "--checkpoint-steps", 100_000)
    process = forked("benchmark", *words, "--dir", folder, "--threads", 1, *more)
    deadline = time.monotonic() + 100
    while process.is_alive() and time.monotonic() < deadline and not list(folder.glob("*/config.json")):
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)  # type: ignore[arg-type]
    process.join(60)
    assert process.exitcode == 130
    (run,) = (path.parent for path in folder.glob("*/config.json"))
    assert 0 < latest(run)["env_steps"] < 15_000
    assert "go on with" in run.with_name(run.name + ".log").read_text()
    done = bench(*words, *more)
    assert done.code == 0, done.err
    assert [command[2] for command in bench.commands] == ["--resume"]
    assert latest(run)["env_steps"] >= 15_000


def test_several_processes_at_once_get_one_thread_each(tmp_path: Path, monkeypatch: Any) -> None:
    started_with: list[dict[str, Any]] = []

    def popen(command: list[str], stdout: Any, env: dict[str, str], **more: Any) -> Any:
        started_with.append({"command": command, "env": env})
        stdout.write(b"first\nerror: no such luck\n\n")
        return Ended(2)

    monkeypatch.setattr(subprocess, "Popen", popen)
    words = ("learn", "dqn", "--env", CHAIN, *QUICK, "--seeds", 2, "--dir", tmp_path / "bench")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    done = call("benchmark", *words, "--jobs", 2)
    assert_one_line(done, 1, "2 runs failed")
    assert "FAILED after 0.0 s: no such luck" in done.out
    assert [one["env"]["OMP_NUM_THREADS"] for one in started_with] == ["1", "1"]
    assert all("--threads 1 " in " ".join(one["command"]) for one in started_with)
    started_with.clear()
    call("benchmark", *words)
    assert len(started_with) == 2
    assert all("OMP_NUM_THREADS" not in one["env"] and "--threads" not in one["command"] for one in started_with)


def test_a_failing_job_is_reported_and_the_others_go_on(bench: Any, tmp_path: Path) -> None:
    envs, out = ("CartPole-v1", "MinAtar/Breakout-v1"), tmp_path / "out.json"
    done = bench("learn", "dqn", "--env", *envs, "--seeds", 1, *QUICK, "--out", out, "--", "--torso", "minatar")
    assert_one_line(done, 1, "1 run failed", "dqn on CartPole-v1, seed 0")
    assert "FAILED after" in done.out
    assert "the torso 'minatar' does not read" in done.out
    rows = {row["env"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["CartPole-v1"]["runs"] == []
    assert rows["CartPole-v1"]["iqm"] is None
    assert len(rows["MinAtar/Breakout-v1"]["runs"]) == 1
    assert "--torso auto" in json.loads(out.read_text())["failed"]["dqn on CartPole-v1, seed 0"]


def test_a_run_that_cannot_be_evaluated_does_not_cost_the_others(bench: Any, tmp_path: Path) -> None:
    command = ("learn", "dqn", "--env", CHAIN, "--seeds", 2, *QUICK)
    assert bench(*command).code == 0
    folder = next((tmp_path / "bench").glob("*__s1__*/"))
    (folder / "metrics.jsonl").write_text("")
    done = bench(*command)
    assert_one_line(done, 1, "1 run failed", "seed 1")
    assert "holds no complete line" in done.out
    assert " 1/2 " in done.out


def test_training_stops_at_a_good_score_only_on_request(bench: Any, tmp_path: Path) -> None:
    assert bench("learn", "dqn", "--env", "CartPole-v1", "--seeds", 1, *QUICK, "--threads", 1).code == 0
    (config,) = configs(tmp_path / "bench").values()  # Gymnasium names 475 for this game
    assert (config["stop_return"], config["threads"]) == (None, 1)
    out = tmp_path / "out.json"
    command = ("learn", "dqn", "--env", CHAIN, "--seeds", 2, *QUICK, "--out", out, "--",
               "--stop-return", "0.05", "--stop-episodes", "2")  # fmt: skip
    done = bench(*command)
    assert done.code == 0, done.err
    assert "steps to solve" in done.out
    (row,) = json.loads(out.read_text())["rows"]
    assert all(run["solved"] and run["env_steps"] < 100 for run in row["runs"])
    assert row["goal"]["stop_return"] == 0.05
    assert row["goal"]["solved"] == 2
    assert row["goal"]["env_steps"] == np.median([run["env_steps"] for run in row["runs"]])
    assert bench(*command).code == 0
    assert bench.commands == []


def test_stable_baselines_is_trained_evaluated_and_read_as_ours(bench: Any, tmp_path: Path) -> None:
    command = ["learn", "sb3-dqn", "--env", "CartPole-v1", "--seeds", 1, "--total-steps", 600]
    more = ["--", "--learning-starts", 100, "--train-freq", 16, "--gradient-steps", 2]
    done = bench(*command, "--eval-episodes", 2, "--out", tmp_path / "one.json", *more)
    assert done.code == 0, done.err
    (row,) = json.loads((tmp_path / "one.json").read_text())["rows"]
    folder = Path(row["runs"][0]["folder"])
    assert row["preset"] == "zoo"
    config = json.loads((folder / "config.json").read_text())["config"]
    assert (config["learning_rate"], config["batch_size"], config["learning_starts"]) == (2.3e-3, 64, 100)
    state = latest(folder)
    assert 600 <= state["env_steps"] < 616
    verdict = json.loads(call("evaluate", folder, "--episodes", 2, "--json").out)
    assert row["evaluation"] == verdict["return_mean"]
    assert row["iqm"] == pytest.approx(read_run(folder).games[-100:, 2].mean())
    assert bench("learn", "dqn", "--env", "CartPole-v1", "--seeds", 1, *QUICK).code == 0
    ours = next(run for run in (tmp_path / "bench").glob("dqn*/"))
    assert read_run(ours).fingerprint == row["fingerprints"][0]  # one game, one protocol
    assert call("compare", folder, ours, "--out", tmp_path / "page.html").code == 0

    assert bench(*command, "--eval-episodes", 3, *more).code == 0  # evaluated again, not trained again
    assert bench.commands == []
    (folder / "checkpoints" / "latest").write_text("step_000000000000")  # half done: trained anew, to the same weights
    done = bench(*command, "--eval-episodes", 2, *more)
    assert done.code == 0, done.err
    assert "seed 0: starts" in done.out
    assert latest(folder)["weights_sha256"] == state["weights_sha256"]


def test_a_half_done_run_that_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(ConfigError, match="is being trained by another process; stop that first"):
        training_jobs.clear(tmp_path)
    assert tmp_path.is_dir()
    held.release()
    training_jobs.clear(tmp_path)
    assert not tmp_path.exists()


def test_stable_baselines_stops_at_a_good_score(bench: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    more = ("--", "--stop-return", 5, "--stop-episodes", 2)
    command = ("learn", "sb3-qrdqn", "--env", "CartPole-v1", "--seeds", 1, "--total-steps", 900)
    assert bench(*command, "--eval-episodes", 1, "--out", out, *more).code == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["goal"]["solved"] == 1
    assert row["runs"][0]["games"] == 2
    assert row["runs"][0]["env_steps"] < 900
    assert row["config"]["n_quantiles"] == 10
    assert bench(*command, "--eval-episodes", 1, *more).code == 0
    assert bench.commands == []


def test_a_missing_stable_baselines_is_an_error_with_its_pip_line(monkeypatch: Any, tmp_path: Path) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "sb3" in name else found(name))
    words = ("sb3-dqn", "--env", "CartPole-v1", "--total-steps", 10)
    for done in (
        call("benchmark", "learn", *words, "--dir", tmp_path / "b"),
        call("train", *words, "--run-dir", tmp_path / "r"),
    ):
        assert_one_line(done, 2, "pip install -c constraints.txt -e '.[sb3]'")
    assert not list(tmp_path.iterdir())


def test_help_names_every_experiment_and_imports_none() -> None:
    code = (
        "import sys; sys.argv = ['benchmark.py', '--help']; from scripts.benchmark import main; main(); "
        "assert 'torch' not in sys.modules and 'scripts.experiments' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"benchmark.py {name} " in done.stdout for name in EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_help_on_all_its_options(name: str) -> None:
    done = call("benchmark", name, "--help")
    assert done.code == 0, done.err
    module, kind = EXPERIMENTS[name]
    options = options_of(getattr(importlib.import_module(f"scripts.experiments.{module}"), kind))
    assert all(f"--{option.name} " in done.out for option in options if not option.positional)


LEARN = f"learn dqn --env {CHAIN} --total-steps 10"
BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "nothing": ("", ("name an experiment: speed, cost",)),
    "no such command": ("lern dqn", ("unknown experiment 'lern'; did you mean learn?",)),
    "no algorithm": ("learn --env CartPole-v1 --total-steps 10", ("ALGO",)),
    "no game": ("learn dqn --total-steps 10", ("--env ID",)),
    "unknown algorithm": ("learn dqm --env CartPole-v1 --total-steps 10", ("unknown algorithm 'dqm'", "dqn")),
    "unknown game": ("learn dqn --env CartPoel-v1 --total-steps 10", ("unknown environment 'CartPoel-v1'",)),
    "second game unknown": ("learn dqn --env CartPole-v1 Pong --total-steps 10", ("unknown environment 'Pong'",)),
    "unknown preset": (f"{LEARN} --preset huge", ("no preset 'huge'",)),
    "no steps": ("learn dqn --env CartPole-v1", ("--total-steps N",)),
    "zero steps": (f"{LEARN} --total-steps 0", ("--total-steps must be at least 1",)),
    "no seeds": (f"{LEARN} --seeds 0", ("--seeds must be at least 1",)),
    "negative seed": (f"{LEARN} --first-seed -1", ("--first-seed must be at least 0",)),
    "no jobs": (f"{LEARN} --jobs 0", ("--jobs must be at least 1",)),
    "out nowhere": (f"{LEARN} --out /nowhere/x.json", ("--out /nowhere/x.json",)),
    "option of train.py": (f"{LEARN} --double", ("benchmark.py learn has no option --double",)),
    "unknown field": (f"{LEARN} -- --doubel", ("no option --doubel", "--double")),
    "field of another algorithm": (f"learn dqn ppo --env {CHAIN} --total-steps 10 -- --double", ("ppo has no option",)),
    "impossible value": (f"{LEARN} -- --gamma 2", ("--gamma must lie in 0 to 1",)),
    "seed as a field": (f"{LEARN} -- --seed 3", ("--seed is an option of the suite",)),
    "steps as a field": (f"{LEARN} -- --total_steps=3", ("--total_steps is an option of the suite",)),
    "field of ours for theirs": (f"learn sb3-dqn --env {CHAIN} --total-steps 10 -- --double", ("no option --double",)),
    "impossible value of theirs": (
        f"learn sb3-dqn --env {CHAIN} --total-steps 10 -- --batch-size 0", ("--batch-size must be at least 1",)
    ),
    "nothing to switch off": (f"ablate ppo --env {CHAIN} --total-steps 10", ("ppo has nothing to switch off",)),
    "theirs is not ablated": (f"ablate sb3-dqn --env {CHAIN} --total-steps 10", ("Stable-Baselines3's sb3-dqn",)),
    "speed of nothing": ("speed --repeats 0", ("--repeats must be at least 1",)),
    "speed with fields": ("speed -- --double", ("speed takes no options after a --",)),
    "startup with fields": ("startup -- --double", ("startup takes no options after a --",)),
    "cost of nothing": ("cost --algorithm", ("--algorithm",)),
    "robustness of nothing": ("robustness", ("name run folders, a fault and its levels",)),
    "robustness with fields": ("robustness x -- --double", ("robustness takes no options after a --",)),
    "ablation of nothing": ("ablate", ("name an algorithm and games",)),
    "exam of nothing": ("exam", ("name algorithms: exam ALGO",)),
    "no sweep file": ("sweep", ("name a sweep file",)),
    "no file of arms": ("transfer", ("name a file of arms",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_trains_nothing(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(training_jobs, "start", None)
    monkeypatch.setattr(throughput, "measure", None)
    command, fragments = BAD[case]
    words = command.split()
    if words and words[0] in ("learn", "ablate"):
        words[1:1] = ["--dir", str(tmp_path / "bench")]
    assert_one_line(call("benchmark", *words), 2, *fragments)
    assert not list(tmp_path.iterdir())


def test_speed_measures_the_named_algorithms(tmp_path: Path, monkeypatch: Any) -> None:
    calls: list[tuple[Any, ...]] = []

    def measure(*arguments: Any) -> Throughput:
        calls.append(arguments)
        rates = {"ours": [11.0, 13.0]}
        return Throughput(arguments[0], throughput.GAME, {"ours": 12.0}, rates, {"env": 1.0}, 24.0, 0.5)

    monkeypatch.setattr(throughput, "measure", measure)
    out = tmp_path / "speed.json"
    done = call("benchmark", "speed", "--algorithm", "ppo", "--repeats", 2, "--seconds", 3, "--no-sb3", "--out", out)
    assert done.code == 0, done.err
    assert calls == [("ppo", 2, 3.0, False)]
    assert "50% of the limit" in done.out
    (numbers,) = json.loads(out.read_text())["results"]
    assert numbers["medians"] == {"ours": 12.0}
    assert "times_sb3" not in numbers


def test_a_buffer_beyond_memory_is_an_error(tmp_path: Path) -> None:
    words = ("--env", "ALE/Pong-v5", "--total-steps", 10, "--run-dir", tmp_path / "run", "--buffer-size", 10**9)
    assert_one_line(call("train", "sb3-dqn", *words), 2, "GB", "--buffer-size")
    assert not list(tmp_path.iterdir())
