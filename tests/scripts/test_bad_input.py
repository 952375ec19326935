"""Bad input ends in one clear line, exit code 2 and nothing written; a failure on the way in one line and code 1."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import safetensors.torch
import torch
import wandb

from agents.policy.ppo import PPO
from agents.run import checkpoint
from scripts.runner import training
from scripts.runner.saved_run import load_run
from tests.scripts.inside import Done, assert_one_line, call
from tests.scripts.runner import script

QUIET = ("--preset", "tiny", "--track", "disabled")

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
    "argument of no use": ("ppo --env CartPole-v1 --env-kwargs wind 3", ("does not take these arguments", "'wind'")),
    "argument out of range": ("ppo --env LunarLander-v3 --env-kwargs gravity 4", ("these arguments: gravity",)),
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


# -- run folders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short DQN run of two checkpoints, trained once."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    done = call("train", "dqn", "--env", "CartPole-v1", *QUIET, "--run-dir", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that was interrupted after its first checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    first = sorted(folder.glob("checkpoints/step_*"))[-2].name
    (folder / "checkpoints" / "latest").write_text(first)
    return folder


def newest(run: Path) -> Path:
    """The checkpoint that `latest` names."""
    return run / "checkpoints" / (run / "checkpoints" / "latest").read_text()


def snapshot(folder: Path) -> dict[str, str]:
    """File -> hash of its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    """Cut the file's second half off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, change: Callable[[dict[str, Any]], Any], reseal: bool = False) -> None:
    """Change a JSON file; with `reseal` its digest as well, as an attacker or another version would."""
    values = json.loads(path.read_text())
    change(values)
    if reseal:
        values = checkpoint.add_digest({key: value for key, value in values.items() if key != "digest"})
    path.write_text(json.dumps(values))


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def bomb(path: Path) -> None:
    """Replace the file with a pickle that would run code."""
    path.write_bytes(pickle.dumps(Bomb(path.parents[3] / "EXPLODED")))


def piece(run: Path) -> Path:
    """The first file of replay that the newest checkpoint lists."""
    return run / "checkpoints" / "replay" / json.loads((newest(run) / "state.json").read_text())["replay"][0]["file"]


def resealed_bomb(run: Path) -> None:
    """The same in place of the weights, with every hash mended."""
    path = newest(run) / "model.safetensors"
    bomb(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(newest(run) / "state.json", lambda state: state.update(model_sha256=digest), reseal=True)


def resealed_piece_bomb(run: Path) -> None:
    """The same in place of the replay, with every hash mended."""
    path = piece(run)
    bomb(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(newest(run) / "state.json", lambda state: state["replay"][0].update(sha256=digest), reseal=True)


def other_network(run: Path) -> None:
    """Weights of another shape, with every hash mended."""
    path = newest(run) / "model.safetensors"
    tensors = {
        name: tensor[..., :-1].contiguous()
        for name, tensor in safetensors.torch.load_file(path).items()
        if tensor.dim()
    }
    safetensors.torch.save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(newest(run) / "state.json", lambda state: state.update(model_sha256=digest), reseal=True)


def config(change: Callable[[dict[str, Any]], Any], reseal: bool = False) -> Callable[[Path], None]:
    """Change config.json."""
    return lambda run: edit(run / "config.json", change, reseal)


ALL, RESUME = ("resume", "evaluate", "watch"), ("resume",)
DAMAGE: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], tuple[str, ...]]] = {
    "missing config": (lambda run: (run / "config.json").unlink(), ALL, ("is not a run folder", "no config.json")),
    "truncated config": (lambda run: halve(run / "config.json"), ALL, ("config.json cannot be read",)),
    "empty config": (lambda run: (run / "config.json").write_text(""), ALL, ("config.json cannot be read",)),
    "config of another kind": (
        lambda run: (run / "config.json").write_text("[1]"), ALL, ("not the record of a run",)
    ),
    "binary config": (
        lambda run: (run / "config.json").write_bytes(b"\xff\xfe\x00"), ALL, ("config.json cannot be read",)
    ),
    "changed gamma": (config(lambda r: r["config"].update(gamma=0.5)), ALL, ("config.json was changed",)),
    "changed protocol": (config(lambda r: r["card"]["protocol"].update(noop_max=9)), ALL, ("config.json was changed",)),
    "changed run id": (config(lambda r: r.pop("run_id")), ALL, ("config.json was changed",)),
    "resealed fingerprint": (
        config(lambda r: r["card"].update(fingerprint="0" * 12), True), ALL, ("another protocol",)
    ),
    "resealed game": (config(lambda r: r["config"].update(env="Acrobot-v1"), True), ALL, ("another protocol",)),
    "resealed unknown field": (
        config(lambda r: r["config"].update(momentum=1), True), ALL, ("unknown fields: momentum",)
    ),
    "resealed gamma": (config(lambda r: r["config"].update(gamma=2), True), ALL, ("--gamma must lie in 0 to 1",)),
    "resealed algorithm": (config(lambda r: r.update(algo="sarsa"), True), ALL, ("the algorithm sarsa",)),
    "resealed network": (config(lambda r: r["config"].update(hidden=[7]), True), ALL, ("does not fit the network",)),
    "resealed without a field": (config(lambda r: r.pop("run_id"), True), ALL, ("has no field 'run_id'",)),
    "resealed with a list of games": (config(lambda r: r.update(card=[]), True), ALL, ("not the record of a run",)),
    "truncated weights": (
        lambda run: halve(newest(run) / "model.safetensors"), ALL, ("model.safetensors is not the file",)
    ),
    "flipped bit": (lambda run: flip(newest(run) / "model.safetensors"), ALL, ("model.safetensors is not the file",)),
    "missing weights": (lambda run: (newest(run) / "model.safetensors").unlink(), ALL, ("cannot be read", "another")),
    "pickle for weights": (
        lambda run: bomb(newest(run) / "model.safetensors"), ALL, ("is not the file that was saved",)
    ),
    "resealed pickle for weights": (resealed_bomb, ALL, ("does not fit the network",)),
    "weights of another network": (other_network, ALL, ("does not fit the network",)),
    "garbage state": (lambda run: (newest(run) / "state.json").write_bytes(b"\x80garbage"), ALL, ("cannot be read",)),
    "truncated state": (lambda run: halve(newest(run) / "state.json"), ALL, ("cannot be read", "another checkpoint")),
    "empty state": (lambda run: (newest(run) / "state.json").write_text("{}"), ALL, ("format",)),
    "changed counter": (
        lambda run: edit(newest(run) / "state.json", lambda s: s.update(env_steps=1)), ALL, ("state.json was",)
    ),
    "state of the future": (
        lambda run: edit(newest(run) / "state.json", lambda s: s.update(format=99)), ALL, ("version",)
    ),
    "latest nowhere": (lambda run: (run / "checkpoints/latest").write_text("step_7"), ALL, ("step_7", "not exist")),
    "latest empty": (lambda run: (run / "checkpoints/latest").write_text(""), ALL, ("latest", "another checkpoint")),
    "latest binary": (
        lambda run: (run / "checkpoints/latest").write_bytes(b"\xff\x00"), ALL, ("latest is not a pointer",)
    ),
    "latest missing": (lambda run: (run / "checkpoints/latest").unlink(), ALL, ("no checkpoint 'latest'",)),
    "no checkpoints": (lambda run: shutil.rmtree(run / "checkpoints"), ALL, ("no checkpoint 'latest'",)),
    "replay missing": (lambda run: piece(run).unlink(), RESUME, ("rows_", "cannot be resumed")),
    "replay flipped": (lambda run: flip(piece(run)), RESUME, ("rows_", "not the file that was saved")),
    "pickle for replay": (lambda run: bomb(piece(run)), RESUME, ("rows_", "not the file that was saved")),
    "resealed pickle for replay": (resealed_piece_bomb, RESUME, ("rows_", "does not fit the replay")),
    "metrics cut": (lambda run: (run / "metrics.jsonl").write_text(""), RESUME, ("metrics.jsonl is shorter",)),
    "games cut": (lambda run: (run / "replays/train.jsonl").write_text(""), RESUME, ("train.jsonl is shorter",)),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "tool"), [(name, tool) for name, entry in DAMAGE.items() for tool in entry[1]])
def test_a_damaged_run_is_refused_and_left_alone(damage: str, tool: str, run: Path) -> None:
    harm, _, fragments = DAMAGE[damage]
    harm(run)
    before = snapshot(run)
    command = {"resume": ("train", "--resume", run), "evaluate": ("evaluate", run), "watch": ("watch", run)}[tool]
    assert_one_line(call(*command), 2, *fragments)
    assert snapshot(run) == before
    assert not (run.parent / "EXPLODED").exists()


def test_the_same_run_undamaged_is_judged_and_goes_on(run: Path) -> None:
    judged = call("evaluate", run, "--episodes", 2, "--json")
    assert (judged.code, judged.err) == (0, "")
    assert json.loads(judged.out.splitlines()[-1])["episodes"] == 2
    assert call("train", "--resume", run).code == 0


def test_the_bomb_does_explode_when_it_is_unpickled(run: Path) -> None:
    path = newest(run) / "model.safetensors"
    bomb(path)
    pickle.loads(path.read_bytes())
    assert (run.parent / "EXPLODED").exists()


def test_damage_to_an_older_checkpoint_does_not_stop_a_run(run: Path) -> None:
    older = run / "checkpoints" / "step_000000000000"
    shutil.copytree(newest(run), older, dirs_exist_ok=True)
    (older / "state.json").write_text("{")
    done = call("train", "--resume", run)
    assert done.code == 0, done.err


def test_a_missing_run_is_one_line(tmp_path: Path) -> None:
    for command in (("train", "--resume"), ("evaluate",), ("watch",)):
        assert_one_line(call(*command, tmp_path / "gone"), 2, f"{tmp_path}/gone")
    assert not list(tmp_path.iterdir())


def test_a_finished_run_is_not_resumed(finished: Path) -> None:
    before = snapshot(finished)
    assert_one_line(call("train", "--resume", finished), 2, "already trained for its 400 env steps")
    assert snapshot(finished) == before


def test_a_run_is_not_written_over(finished: Path) -> None:
    before = snapshot(finished)
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", finished)
    assert_one_line(done, 2, "already holds a run", "--resume", "--run-dir")
    assert snapshot(finished) == before


BAD_CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no episodes": (("evaluate", "RUN", "--episodes", "0"), ("--episodes must be at least 1",)),
    "episodes in words": (("evaluate", "RUN", "--episodes", "many"), ("--episodes", "many")),
    "negative seed": (("evaluate", "RUN", "--seed", "-1"), ("--seed",)),
    "unknown option": (("evaluate", "RUN", "--epsiodes", "3"), ("--epsiodes", "did you mean --episodes?")),
    "unknown checkpoint": (("evaluate", "RUN", "--checkpoint", "step_1"), ("no checkpoint 'step_1'",)),
    "no run": (("evaluate",), ("RUN",)),
    "file as a run": (("evaluate", "RUN/config.json"), ("config.json is not a run folder",)),
    "no games to watch": (("watch", "RUN", "--episodes", "0"), ("--episodes must be at least 1",)),
    "videos in a file": (("watch", "RUN", "--out", "RUN/config.json/x"), ("config.json is a file; give --out",)),
    "page in a file": (("compare", "RUN", "--out", "RUN/config.json/x"), ("config.json is a file; give --out",)),
    "enormous picture": (("watch", "RUN", "--scale", "99"), ("--scale 1 to 12",)),
    "replay that is not": (("watch", "RUN/replays/nope.jsonl"), ("nope.jsonl", "replays folder")),
    "no replay": (("watch", "RUN/config.json"), ("config.json, line 1", "not an action replay")),
    "episode that is not": (("watch", "RUN/replays/train.jsonl", "--episode", "9999"), ("no episode '9999'", "0 to")),
    "resume with settings": (("train", "--resume", "RUN", "--gamma", "0.5"), ("--resume", "leave out --gamma")),
    "resume dry": (("train", "--resume", "RUN", "--dry-run"), ("--resume", "leave out --dry-run")),
    "resume elsewhere": (("train", "--resume", "RUN", "--run-dir", "x"), ("--resume", "leave out --run-dir")),
    "nothing": (("train",), ("name an algorithm",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call_on_a_good_run_changes_nothing(case: str, run: Path) -> None:
    command, fragments = BAD_CALLS[case]
    before = snapshot(run)
    assert_one_line(call(*(part.replace("RUN", str(run)) for part in command)), 2, *fragments)
    assert snapshot(run) == before


@pytest.mark.parametrize("verify", [(), ("--verify",)])
def test_a_tampered_replay_is_refused(verify: tuple[str, ...], run: Path) -> None:
    path = run / "replays" / "train.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[0])
    record["episode_return"] += 100
    path.write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")
    assert_one_line(call("watch", path, "--episode", 0, *verify), 2, "line 1", "changed after it was written")
    assert not (run / "videos").exists()


# -- failures on the way ----------------------------------------------------------------------------------------------


@contextmanager
def disk_full_beyond(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: writes fail in the operating system, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_at_call(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, with the disk full during its call `number`."""
    calls = []

    def limited(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) != number:
            return function(*arguments)
        with disk_full_beyond(1000):
            return function(*arguments)

    return limited


def assert_intact_and_resumable(folder: Path, env_steps: int) -> None:
    """Fail unless the checkpoint at `env_steps` is the latest, loads, and nothing half-written lies beside it."""
    assert load_run(folder).state["env_steps"] == env_steps
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    done = call("train", "--resume", folder)
    assert done.code == 0, done.err


@pytest.mark.parametrize(("algorithm", "number"), [("dqn", 3), ("ppo", 2)])  # of a file; DQN's second is its replay
def test_a_full_disk_while_weights_are_saved(algorithm: str, number: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checkpoint, "_save_tensors", full_at_call(number, checkpoint._save_tensors))
    done = call("train", algorithm, "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 1, "model.safetensors", "File too large", "checkpoints already saved are intact")
    assert_intact_and_resumable(tmp_path / "run", 0)


def test_a_full_disk_while_replay_is_saved(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checkpoint, "_save_replay", full_at_call(2, checkpoint._save_replay))
    done = call("train", "dqn", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 1, "rows_", "File too large", "checkpoints already saved are intact")
    assert_intact_and_resumable(tmp_path / "run", 0)


def test_a_full_disk_while_metrics_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to("/dev/full")
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", folder)
    assert_one_line(done, 1, "No space left on device", "checkpoints already saved are intact")
    (folder / "metrics.jsonl").unlink()
    assert_intact_and_resumable(folder, 0)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("ppo --learning-rate 1e30", "the first bad numbers are in model."),
        ("dqn --learning-rate 1e30", "the first bad numbers are in model."),
        ("ppo --learning-rate 1e30 --epochs 1 --minibatches 1", "the first bad numbers are in model."),
    ],
)
def test_a_loss_that_is_no_number_stops_the_run(command: str, names: str, tmp_path: Path) -> None:
    algorithm, *rest = command.split()
    done = call("train", algorithm, "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run", *rest)
    assert_one_line(done, 1, names, "env step", "the last good checkpoint is", "step_000000000000")
    assert all(bool(torch.isfinite(p).all()) for p in load_run(tmp_path / "run").agent.model.parameters())


@pytest.mark.parametrize(
    ("name", "at"),
    [("head.value.bias", 4), ("head.policy.layer.weight", 2), ("torso.value.layers.0.weight", 2)],
    ids=["found when saving", "found when acting", "found in the loss"],
)
def test_a_poisoned_weight_is_named_and_never_saved(name: str, at: int, tmp_path: Path, monkeypatch: Any) -> None:
    update = PPO.update

    def poisoned(agent: PPO, *arguments: Any) -> Any:
        result = update(agent, *arguments)
        if agent.updates == at:
            agent.model.get_parameter(name).data.fill_(np.nan)
        return result

    monkeypatch.setattr(PPO, "update", poisoned)
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 1, f"model.{name}" if at == 4 else "model.", "env step", "the last good checkpoint is")
    saved = load_run(tmp_path / "run")
    assert checkpoint.non_finite(saved.agent) is None


def test_a_tracker_that_cannot_start_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(**arguments: Any) -> None:
        raise OSError("the moon is in the wrong phase")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.warns(UserWarning, match="W&B cannot run offline: the moon"):
        done = call("train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert load_run(tmp_path / "run").state["env_steps"] >= 400


def test_a_tracker_that_breaks_later_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    class Broken:
        dir, step = str(tmp_path / "files"), 0

        def define_metric(self, *arguments: Any, **more: Any) -> None: ...

        def log(self, values: Any, step: int) -> None:
            raise ConnectionError("gone")

        def finish(self) -> None:
            raise ConnectionError("gone")

    monkeypatch.setattr(wandb, "init", lambda **arguments: Broken())
    with pytest.warns(UserWarning, match="W&B failed"):
        done = call("train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err


def test_a_tracker_folder_that_cannot_be_written_does_not_stop_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "wandb").write_text("a file where W&B wants a folder")
    with pytest.warns(UserWarning, match="W&B"):
        done = call("train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", folder)
    assert done.code == 0, done.err
    assert load_run(folder).state["env_steps"] >= 400
