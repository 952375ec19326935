"""Settings that cannot work end in one clear line and exit code 2, before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from agents.config import TrainConfig
from scripts.runner import training
from tests.scripts.inside import QUIET, Done, assert_one_line, call
from tests.scripts.runner import script

STARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "misspelt atari": ("ppo --env ALE/Pogn-v5", ("unknown environment 'ALE/Pogn-v5'", "ALE/Pong-v5")),
    "misspelt without namespace": ("ppo --env Pong-v5", ("unknown environment 'Pong-v5'", "ALE/Pong-v5")),
    "atari of old": ("ppo --env PongNoFrameskip-v4", ("unknown environment", "ALE/Pong-v5")),
    "version that is not": ("dqn --env CartPole-v9", ("unknown environment", "CartPole-v1")),
    "misspelt minatar": ("dqn --env MinAtar/Brakout-v1", ("unknown environment", "MinAtar/Breakout-v1")),
    "misspelt minigrid": ("dqn --env MiniGrid-Emty-5x5-v0", ("unknown environment", "MiniGrid-Empty-5x5-v0")),
    "nothing like it": ("dqn --env xqzw", ("unknown environment 'xqzw'",)),
    "no game": ("dqn", ("--env",)),
    "continuous actions": ("dqn --env Pendulum-v1", ("Discrete", "Box(")),
    "no legal actions told": ("ppo --env CartPole-v1 --mask-actions", ("action_mask",)),
    "masks for a value-based agent": ("dqn --env Taxi-v4 --mask-actions", ("--mask-actions", "policy")),
    "tuple of observations": ("dqn --env Blackjack-v1 --preset classic", ("observations", "Tuple(")),
    "needs another project": ("dqn --env Ant-v3", ("Ant-v3 cannot be made", "gymnasium-robotics")),
    "unknown option": ("dqn --env CartPole-v1 --learning-rat 1", ("--learning-rat;", "did you mean --learning-rate?")),
    "unknown option, far off": ("dqn --env CartPole-v1 --zzz 1", ("no option --zzz", "--help")),
    "option of another agent": ("dqn --env CartPole-v1 --minibatches 4", ("no option --minibatches",)),
    "value without option": ("dqn 7 --env CartPole-v1", ("7",)),
    "no environments": ("dqn --env CartPole-v1 --num-envs 0", ("--num-envs must be at least 1, not 0",)),
    "gamma above 1": ("dqn --env CartPole-v1 --gamma 2", ("--gamma must lie in 0 to 1, not 2",)),
    "gamma not a number": ("dqn --env CartPole-v1 --gamma nan", ("--gamma must lie in 0 to 1",)),
    "word for a number": ("dqn --env CartPole-v1 --learning-rate abc", ("learning-rate", "abc")),
    "rate of zero": ("ppo --env CartPole-v1 --learning-rate 0", ("--learning-rate must be above 0",)),
    "too many minibatches": ("ppo --env CartPole-v1 --minibatches 99999", ("--minibatches must be at most", "99999")),
    "sequence does not divide": ("ppo --env CartPole-v1 --sequence-length 5", ("must divide the rollout length",)),
    "memory without sequences": ("ppo --env CartPole-v1 --core gru --sequence-length 1", ("--sequence-length",)),
    "sequences without memory": ("dqn --env CartPole-v1 --sequence-length 8", ("--sequence-length", "--core")),
    "unknown core": ("ppo --env CartPole-v1 --core elman", ("core", "elman")),
    "learning before a sample": ("dqn --env CartPole-v1 --learning-starts 0", ("--learning-starts must be at least",)),
    "no steps": ("dqn --env CartPole-v1 --total-steps 0", ("--total-steps must be at least 1",)),
    "enormous seed": ("dqn --env CartPole-v1 --seed 99999999999999999999999", ("--seed must be below",)),
    "fraction of a step": ("dqn --env CartPole-v1 --total-steps 1.5", ("--total-steps takes a whole number", "1.5")),
    "negative seed": ("dqn --env CartPole-v1 --seed -1", ("--seed must not be negative",)),
    "width of nothing": ("dqn --env CartPole-v1 --hidden 0", ("--hidden",)),
    "unknown device": ("dqn --env CartPole-v1 --device abacus", ("--device must be cpu, cuda or auto",)),
    "unknown torso": ("dqn --env CartPole-v1 --torso vgg", ("'vgg'", "--torso auto")),
    "cnn on a vector": ("ppo --env CartPole-v1 --torso nature", ("'nature' does not read", "--torso auto")),
    "centred dict": ("ppo --env MiniGrid-Empty-5x5-v0 --input-norm center", ("--input-norm center", "use scale")),
    "replay beyond disk": (
        "dqn --env ALE/Pong-v5 --replay-capacity 9000000000", ("GB are free on the disk of", "--replay-capacity")
    ),
    "replay beyond memory": (
        "dqn --env ALE/Pong-v5 --replay-capacity 9000000000 --replay-storage memory",
        ("GB are free; use", "--replay-storage auto"),
    ),
    "atoms the wrong way round": ("c51 --env CartPole-v1 --v-min 3 --v-max 1", ("--v-max must be above --v-min 3.0",)),
    "burn-in without a memory": ("r2d2 --env CartPole-v1 --core none --burn-in 4", ("--burn-in must be 0",)),
    "shifted grids": ("dqn --env MinAtar/Breakout-v1 --augment", ("--augment shifts images",)),
    "two ways to tame": ("dqn --env CartPole-v1 --munchausen --value-rescale", ("--munchausen excludes",)),
    "a ladder of one": ("r2d2 --env CartPole-v1 --num-envs 1", ("--exploration needs several environments",)),
    "burn-in of pqn without a memory": ("pqn --env CartPole-v1 --burn-in 1", ("--burn-in must be 0",)),
    "a switch of another agent": ("pqn --env CartPole-v1 --double", ("pqn has no option --double",)),
    "last action of a continuous game": (
        "dqn --env Pendulum-v1 --observe-last", ("--observe-last shows numbered actions only",)
    ),
    "unknown algorithm": ("pppo --env CartPole-v1", ("unknown algorithm 'pppo'", "ppo")),
    "unknown preset": ("ppo --env CartPole-v1 --preset huge", ("no preset 'huge'", "classic")),
    "unknown protocol": ("ppo --env ALE/Pong-v5 --protocol nature", ("unknown protocol 'nature'", "machado")),
    "atari protocol elsewhere": ("ppo --env CartPole-v1 --protocol classic", ("does not fit CartPole-v1", "native")),
    "native protocol on atari": ("ppo --env ALE/Pong-v5 --protocol native", ("does not fit", "classic or machado")),
    "image size of no image": ("ppo --env CartPole-v1 --image-size 42", ("image size", "CartPole-v1")),
    "image size of 5": ("ppo --env ALE/Pong-v5 --image-size 5", ("--image-size must lie in 20 to 256",)),
    "image too small": ("ppo --env ALE/Pong-v5 --image-size 24 --torso nature", ("too small",)),
    "half an argument": ("ppo --env joypad/TMaze-v0 --env-kwargs horizon", ("--env-kwargs", "pairs")),
    "argument of a game": ("ppo --env FrozenLake-v1 --env-kwargs map_name 5x5", ("(map_name 5x5): KeyError",)),
    "argument of no use": ("ppo --env CartPole-v1 --env-kwargs wind 3", ("does not take these arguments", "'wind'")),
    "argument out of range": ("ppo --env LunarLander-v3 --env-kwargs gravity 4", ("(gravity 4): AssertionError",)),
    "argument of an atari game": ("ppo --env ALE/Pong-v5 --env-kwargs mode 1", ("takes sound, flicker", "not mode")),
    "flicker without a picture": ("ppo --env CartPole-v1 --env-kwargs flicker 0.5", ("flicker needs images",)),
    "nothing but flicker": ("ppo --env ALE/Pong-v5 --env-kwargs flicker 1", ("flicker must be at least 0",)),
    "a2c off its policy": ("a2c --env CartPole-v1 --epochs 2", ("--epochs must be 1", "A2C")),
    "reinforce with a critic's guess": ("reinforce --env CartPole-v1 --gae-lambda 0.9", ("--gae-lambda must be 1",)),
    "v-trace over a part": ("impala --env CartPole-v1 --sequence-length 4", ("--sequence-length must be 0",)),
    "v-trace upside down": ("impala --env CartPole-v1 --c-bar 2", ("--c-bar must be at most rho_bar",)),
    "negative entropy": ("ppo --env CartPole-v1 --entropy-coef -1", ("--entropy-coef must not be negative",)),
    "unknown value scale": ("ppo --env CartPole-v1 --value-scale cubic", ("value-scale", "cubic")),
    "running norm for a replay": ("dqn --env CartPole-v1 --input-norm running", ("--input-norm",)),
    "numbers in rank and file": ("sac --env Pendulum-v1", ("Discrete", "Box(")),
    "track nowhere": ("ppo --env CartPole-v1 --track paper", ("--track", "paper", "disabled")),
}  # fmt: skip


@pytest.mark.parametrize("case", STARTS)
def test_a_bad_start_is_one_line_and_writes_nothing(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    command, fragments = STARTS[case]
    monkeypatch.setattr(training, "RUNS", tmp_path / "runs")
    given = command.split()
    quiet = [part for pair in (QUIET[:2], QUIET[2:]) if pair[0] not in given for part in pair]
    assert_one_line(call("train", *given, *quiet), 2, *fragments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("family", "env"), [("minatar", "MinAtar/Breakout-v1"), ("minigrid", "MiniGrid-Empty-5x5-v0")])
def test_a_missing_extra_is_told_with_its_pip_line(family: str, env: str, tmp_path: Path, monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == family]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in (family, f"{family}.gym"):
        monkeypatch.setitem(sys.modules, name, None)
    for env_id in [
        env_id for env_id in gym.registry if env_id.split("/")[0].split("-")[0] == env.split("/")[0].split("-")[0]
    ]:
        monkeypatch.delitem(gym.registry, env_id)
    done = call("train", "ppo", "--env", env, *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, env, f"needs the package {family}", "pip install -c constraints.txt -e '.[games]'")
    assert not (tmp_path / "run").exists()


def test_a_missing_box2d_is_told_with_its_pip_line(tmp_path: Path, monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    done = call("train", "ppo", "--env", "LunarLander-v3", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, "LunarLander-v3 cannot be made", "pip install -c constraints.txt -e '.[games]'")
    assert not (tmp_path / "run").exists()


def test_a_run_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, f"{tmp_path}/run is a file", "--run-dir")
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run" / "below")
    assert_one_line(done, 2, f"{tmp_path}/run is a file", "--run-dir")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_process_ends_the_same_way(tmp_path: Path) -> None:
    done = script("train", "dqn", "--env", "CartPole-v1", "--learning-rat", 1, "--run-dir", tmp_path / "run")
    assert_one_line(Done(done.returncode, done.stdout, done.stderr), 2, "did you mean --learning-rate?")
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = call("train", "dqn", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert not (tmp_path / "run").exists()


def test_runs_that_start_in_one_second_have_folders_of_their_own() -> None:
    config = TrainConfig(env="CartPole-v1")
    assert len({training.run_name("ppo", config) for _ in range(50)}) > 45
