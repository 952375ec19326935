"""A damaged run folder, and a mistake on the command line about a good one, are refused and change nothing."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from agents.run import checkpoint
from scripts.command_line.errors import USER_ERRORS
from scripts.runner import training
from scripts.runner.saved_run import load_run
from tests.scripts.inside import QUIET, assert_one_line, call


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


def elsewhere(path: Path) -> None:
    """A file or folder outside the run, and a symbolic link that leads there."""
    outside = path.parents[1] / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def latest_elsewhere(run: Path) -> None:
    """The newest checkpoint outside the run, intact, and `latest` leads there."""
    newest(run).rename(run.parent / "elsewhere")
    (run / "checkpoints" / "latest").write_text("../../elsewhere")


def piece_elsewhere(run: Path) -> None:
    """A file of the replay outside the run, intact, and the checkpoint leads there."""
    piece(run).rename(run.parent / "rows")
    edit(newest(run) / "state.json", lambda state: state["replay"][0].update(file="../../../rows"), reseal=True)


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
    "resealed module": (
        config(lambda r: r["config"].update(env="antigravity:CartPole-v1"), True), ALL, ("unknown environment",)
    ),
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
    "metrics elsewhere": (lambda run: elsewhere(run / "metrics.jsonl"), ALL, ("metrics.jsonl is a symbolic link",)),
    "videos elsewhere": (lambda run: elsewhere(run / "replays"), ALL, ("replays is a symbolic link",)),
    "latest elsewhere": (latest_elsewhere, ALL, ("latest leads out of",)),
    "replay elsewhere": (piece_elsewhere, RESUME, ("rows leads out of the run",)),
    "latest missing": (lambda run: (run / "checkpoints/latest").unlink(), ALL, ("no checkpoint 'latest'",)),
    "no checkpoints": (lambda run: shutil.rmtree(run / "checkpoints"), ALL, ("no checkpoint 'latest'",)),
    "replay missing": (lambda run: piece(run).unlink(), RESUME, ("rows_", "cannot be resumed")),
    "replay flipped": (lambda run: flip(piece(run)), RESUME, ("rows_", "not the file that was saved")),
    "pickle for replay": (lambda run: bomb(piece(run)), RESUME, ("rows_", "not the file that was saved")),
    "resealed pickle for replay": (resealed_piece_bomb, RESUME, ("rows_", "does not fit the replay")),
    "metrics cut": (lambda run: (run / "metrics.jsonl").write_text(""), RESUME, ("metrics.jsonl is shorter",)),
    "games cut": (lambda run: (run / "replays/train.jsonl").write_text(""), RESUME, ("train.jsonl is shorter",)),
}  # fmt: skip
"""Name -> what damages the run, the tools that must refuse it, and fragments of their message."""
OPENERS: dict[str, Callable[[Path], object]] = {
    "resume": lambda run: training.resume(run, progress=False),
    "load": load_run,
}
"""How commands open a run: train.py --resume by the first, evaluate.py and watch.py by the second."""
OF_EACH_KIND = (
    "missing config", "changed gamma", "resealed algorithm", "flipped bit", "pickle for weights",
    "resealed pickle for weights", "truncated state", "latest binary", "latest elsewhere", "no checkpoints",
    "replay missing", "resealed pickle for replay", "games cut",
)  # fmt: skip
"""Damages that each command meets too: of every file, and of every class of error."""


@pytest.mark.parametrize(
    ("damage", "opener"),
    [(name, opener) for name, entry in DAMAGE.items() for opener in OPENERS if opener in entry[1] or entry[1] == ALL],
)
def test_a_damaged_run_is_not_opened_and_left_alone(damage: str, opener: str, run: Path) -> None:
    harm, _, fragments = DAMAGE[damage]
    harm(run)
    before = snapshot(run)
    with pytest.raises(USER_ERRORS) as refusal:
        OPENERS[opener](run)
    for fragment in fragments:
        assert fragment in str(refusal.value)
    assert snapshot(run) == before
    assert not (run.parent / "EXPLODED").exists()


@pytest.mark.parametrize(("damage", "tool"), [(name, tool) for name in OF_EACH_KIND for tool in DAMAGE[name][1]])
def test_a_command_refuses_a_damaged_run_in_one_line(damage: str, tool: str, run: Path) -> None:
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
