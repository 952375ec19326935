"""Commands: a first line at once, short helps, the list of games, bad command lines, interrupts, and joypad."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agents.presets import registry
from agents.run.run import Run
from scripts.command_line import algorithms
from scripts.command_line import main as joypad
from scripts.command_line.algorithms import ALGORITHMS, WELL_KNOWN, games_by_family
from scripts.runner import training
from tests.scripts.inside import assert_one_line, call
from tests.scripts.runner import ENVIRONMENT, ROOT, script


def test_the_list_shows_families_and_then_all_games_and_presets_of_one() -> None:
    done = call("train", "--list")
    assert done.code == 0
    assert all(line in " ".join(done.out.split()) for line in ALGORITHMS.values())
    assert "ALE/Zaxxon-v5" not in done.out
    games = games_by_family()
    assert all(set(WELL_KNOWN) & set(ids) for ids in games.values())
    assert len(games["atari"]) == 104
    done = call("train", "--list", "atari")
    assert done.code == 0
    assert set(games["atari"]) <= set(done.out.split())
    for name in ("fast", "atari-fast", "atari-100k", "zoo-atari"):
        assert name in done.out
    assert_one_line(call("train", "--list", "ataari"), 2, "no family 'ataari'; did you mean atari?")


def test_the_list_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    algorithms.print_families()
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    for name, use in ALGORITHMS.items():
        assert sum(line.split()[:1] == [name] and use in line for line in lines) == 1
    assert not set(ALGORITHMS) - set(registry.ALGORITHMS)


GAMES = ("CartPole-v1", "ALE/Pong-v5", "MiniGrid-Empty-5x5-v0", "LunarLander-v3", "MinAtar/Breakout-v1")


@pytest.mark.parametrize("env_id", [pytest.param(name, marks=pytest.mark.slow) for name in GAMES[1:]] + [GAMES[0]])
def test_a_normal_run_prints_no_warning(env_id: str, tmp_path: Path) -> None:
    """Nothing on stderr, neither of ours nor of a library; cold processes, since a library warns at its import."""
    run, size = tmp_path / "run", ("--total-steps", 2_000, "--rollout-length", 64, "--num-envs", 4, "--log-steps", 500)
    for name, *words in (
        ("train", "ppo", "--env", env_id, *size, "--minibatches", 2, "--epochs", 1, "--run-dir", run, "--videos"),
        ("watch", run), ("evaluate", run, "--episodes", 1), ("compare", run, "--out", tmp_path / "page.html"),
    ):  # fmt: skip
        done = script(name, *words)
        assert done.returncode == 0, done
        assert done.stderr == ""
        assert "warning" not in done.stdout.lower()


def test_a_command_says_what_it_does_before_it_loads() -> None:
    done = call("train", "dqnn", "--env", "CartPole-v1")
    assert done.out == "loading dqnn for CartPole-v1 ...\n"
    assert_one_line(done, 2, "did you mean dqn?")


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        ("train", ("name an algorithm", "--resume")), ("train --env CartPole-v1", ("name an algorithm",)),
        ("train dqn", ("--env ID",)),
        ("train --videos dqn", ("--env ID",)), ("train --tags dqn", ("name an algorithm",)),
        ("train --resume", ("--resume",)), ("train --resume x --lr 3", ("--lr",)),
        ("train dqn --resume x", ("leave out dqn",)), ("train --from x", ("x is not a run folder",)),
        ("train --from", ("--from takes a run folder",)),
        ("evaluate", ("evaluate.py RUN",)), ("evaluate x --env LunarLander-v3", ("the run's own game", "--env-kwargs")),
        ("evaluate x --epis 3", ("no option --epis; did you mean --episodes?",)),
        ("evaluate x --episodes 0", ("--episodes must be at least 1",)),
        ("watch", ("watch.py RUN|REPLAY",)), ("watch x --scale 13", ("--scale 1 to 12",)),
        ("watch . --verify", ("--verify is for action replays",)), ("doctor --verbose", ("no option --verbose",)),
        ("compare", ("name run folders",)), ("compare x --duel ppo a2c", ("give no run folders",)),
        ("compare --duel ppo a2c", ("--env ID",)), ("compare --duel ppo", ("--duel takes 2 values or None, not ppo",)),
    ],
)  # fmt: skip
def test_a_command_line_that_cannot_be_followed_is_one_line(command: str, fragments: tuple[str, ...]) -> None:
    assert_one_line(call(*command.split()), 2, *fragments)


CHECK = """
import runpy, sys
sys.argv = [{name!r}, "--help"]
try:
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit as ended:
    assert ended.code in (None, 0), ended.code
heavy = {{"torch", "gymnasium", "scipy", "matplotlib", "wandb", "stable_baselines3"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("name", ["train", "evaluate", "watch", "compare", "doctor", "benchmark"])
def test_the_help_of_a_command_loads_no_library_of_the_training(name: str) -> None:
    code = CHECK.format(name=f"{name}.py", path=str(ROOT / "scripts" / f"{name}.py"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{name}.py" in done.stdout


def test_the_help_of_train_fits_on_a_screen_and_names_every_algorithm() -> None:
    done = call("train", "--help")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) < 75
    assert "\n  train.py ppo --env CartPole-v1\n" in done.out
    for name, line in ALGORITHMS.items():
        assert name in done.out
        assert line in done.out
    for option in ("--env", "--preset", "--resume", "--from", "--run-dir", "--track", "--list", "--dry-run"):
        assert option in done.out


def dispatch(monkeypatch: Any, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["joypad", *words])
    joypad.main()


def test_joypad_is_the_same_as_the_scripts(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"] == {
        "joypad": "scripts.command_line.main:main"
    }
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "RUNS", tmp_path / "runs")
    dispatch(monkeypatch, "train", "--list", "toy")
    assert capsys.readouterr().out == call("train", "--list", "toy").out
    dispatch(monkeypatch, "train", "dqn", "--env", "CartPole-v1", "--preset", "tiny", "--track", "disabled")
    (run,) = (tmp_path / "runs").iterdir()
    dispatch(monkeypatch, "evaluate", str(run), "--episodes", "2")
    assert '"episodes": 2' in capsys.readouterr().out.splitlines()[-1]


def test_joypad_lists_commands_and_names_the_closest(monkeypatch: Any, capsys: Any) -> None:
    dispatch(monkeypatch, "--help")
    shown = capsys.readouterr().out
    for name in joypad.COMMANDS:
        assert f"\n  {name} " in shown
        assert (ROOT / "scripts" / f"{name}.py").exists()
    for words, message in ((["trian"], "no command 'trian'; did you mean train?"), ([], "takes a command: train, ")):
        with pytest.raises(SystemExit):
            dispatch(monkeypatch, *words)
        assert message in capsys.readouterr().err


def test_joypad_loads_no_command_for_its_help(tmp_path: Path) -> None:
    code = "import sys; from scripts.command_line.main import main; sys.argv = ['joypad', '--help']; main()"
    code += "; assert not {'torch', 'gymnasium', 'scripts.train'} & set(sys.modules)"
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("place", "name"), [(Run, "segment_over"), (training, "_print_summary")])
def test_a_second_interrupt_tells_how_to_go_on(place: Any, name: str, monkeypatch: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(place, name, interrupt)
        done = call("train", "dqn", "--env", "CartPole-v1", "--preset", "tiny", "--track", "disabled", "--run-dir", run)
    last = (run / "checkpoints" / "latest").read_text().strip()
    assert_one_line(done, 130, f"the last saved checkpoint is {last}", f"train.py --resume {run}")
    done = call("train", "--resume", run, *(("--total-steps", "600") if place is training else ()))
    assert done.code == 0, done.err
