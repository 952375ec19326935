"""The Python API: its numbers are those of the commands, its errors exceptions, its page runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.errors import CheckpointError, ConfigError
from agents.run import preflight
from envs.errors import EnvError
from scripts.runner import TrainedAgent, evaluate, load, record_video, resume, train, training
from scripts.runner.results import read_curves
from scripts.runner.run_record import read_record
from tests.scripts.inside import assert_one_line, call
from tests.scripts.runner import ROOT

TINY: dict[str, Any] = {"preset": "tiny"}


class Corridor(gym.Env):
    """Walk right to the end of a corridor: a Dict observation of position and a number."""

    def __init__(self, length: int = 4):
        self.length = length
        self.observation_space = spaces.Dict({"place": spaces.Box(0, 1, (1,), np.float32), "side": spaces.Discrete(2)})
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return self._obs(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place, self.steps = max(self.place + (1 if action else -1), 0), self.steps + 1
        over = self.place == self.length
        return self._obs(), float(over), over, self.steps >= 30, {}

    def _obs(self) -> dict[str, Any]:
        return {"place": np.array([self.place / self.length], np.float32), "side": self.steps % 2}


def corridor(length: int = 4) -> gym.Env:
    return Corridor(length)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(training, "write_report", lambda runs, page: page)
    monkeypatch.setattr(preflight, "ROW_SECONDS", 0.0)
    monkeypatch.setattr(preflight, "LEARN_SECONDS", 0.0)
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent PPO on CartPole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = tmp_path_factory.mktemp("api") / "run"
        return train("ppo", "CartPole-v1", **TINY, core="gru", seed=3, run_dir=path).folder


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PPO on an environment of a factory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = tmp_path_factory.mktemp("api") / "corridor"
        return train("ppo", corridor, **TINY, core="lstm", env_kwargs={"length": 3}, run_dir=path).folder


def weights(run: Path) -> str:
    name = (run / "checkpoints" / "latest").read_text()
    return json.loads((run / "checkpoints" / name / "state.json").read_text())["weights_sha256"]


def test_every_block_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python-api.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 8
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python-api.md", "exec"), names)
    assert names["result"].folder == Path("runs/pole")
    assert names["videos"][0].exists()


def test_the_guide_to_own_environments_learns_its_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "guides" / "own-environment.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(
        compile(block.replace("total_steps=20_000", "total_steps=1_000"), "own-environment.md", "exec"),
        names,
    )
    mean = names["evaluate"](names["result"].folder, episodes=5, env=names["Corridor"]).return_mean
    assert 0.0 <= mean <= 1.0
    assert names["agent"].predict(np.zeros(1, np.float32)) in (0, 1)


def test_the_api_trains_and_evaluates_as_the_commands_do(folder: Path, tmp_path: Path) -> None:
    command = ("--env", "CartPole-v1", "--preset", "tiny", "--core", "gru", "--seed", 3, "--track", "disabled")
    done = call("train", "ppo", *command, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert weights(tmp_path / "run") == weights(folder)
    result = evaluate(folder, episodes=5, seed=4)
    told = json.loads(call("evaluate", folder, "--episodes", 5, "--seed", 4, "--json").out)
    assert (result.return_mean, result.return_std, result.weights_sha256) == (
        told["return_mean"], told["return_std"], told["weights_sha256"]
    )  # fmt: skip
    assert (
        evaluate(folder / "checkpoints" / "best", episodes=2).weights_sha256
        == evaluate(folder, episodes=2, checkpoint="best").weights_sha256
    )


def test_the_named_checkpoint_plays_the_games_of_the_seed(folder: Path) -> None:
    oldest = min(path.name for path in (folder / "checkpoints").glob("step_*"))
    one, other = (evaluate(folder, episodes=1, seed=seed, checkpoint=oldest) for seed in (1, 2))
    assert one.weights_sha256 == other.weights_sha256 != weights(folder)
    assert one.records[0].seed != other.records[0].seed


def test_a_result_has_returns_and_curves(tmp_path: Path) -> None:
    result = train("ppo", "CartPole-v1", **TINY, eval_episodes=2, total_steps=400, run_dir=tmp_path / "run")
    returns, means = result.curves.episode_returns, result.curves.eval_means
    assert tuple(returns.values[-len(result.returns) :]) == result.returns
    assert returns.env_steps.dtype == np.int64
    assert (np.diff(returns.env_steps) >= 0).all()
    assert (np.diff(returns.wall_seconds) >= 0).all()
    assert len(means.values) == len(means.env_steps) == 2
    assert result.env_steps >= 400
    assert not result.solved
    assert not result.interrupted
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 1')  # a line that a killed training did not finish
    assert len(result.curves.episode_returns.values) == len(returns.values)


def test_curves_of_damaged_metrics_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"env_steps": 8, "wall_seconds": 1.0}\n')
    assert len(read_curves(tmp_path).episode_returns.values) == 0
    for line in ("not JSON", "[8]", '{"env_steps": 9}'):
        (tmp_path / "metrics.jsonl").write_text(f'{line}\n{{"env_steps": 8, "wall_seconds": 1.0}}\n')
        with pytest.raises(ConfigError, match="corrupted line 1"):
            read_curves(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is missing"):
        read_curves(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "settings", "kind", "fragment"),
    [
        (("ppo", "CartPole-v1"), {"learning_rat": 1}, ConfigError, "did you mean learning_rate?"),
        (("ppo", "CartPole-v1"), {"env_id": "CartPole-v1"}, ConfigError, "takes the environment as `env`"),
        (("ppo", "CartPole-v1"), {"n_envs": 1}, ConfigError, "it is called num_envs here"),
        (("pppo", "CartPole-v1"), {}, ConfigError, "did you mean ppo?"),
        (("ppo", "CartPol-v1"), {}, EnvError, "CartPole-v1"),
        (("ppo", "CartPole-v1"), {"gamma": "high"}, ConfigError, "gamma takes a number"),
        (("ppo", "CartPole-v1"), {"gamma": 2.0}, ConfigError, "must lie in 0 to 1"),
        (("ppo", "custom/corridor"), {}, ConfigError, "give the factory itself"),
        (("ppo", lambda: 7), {}, ConfigError, "must return a gymnasium.Env, not int"),
        (("ppo", corridor), {"env_kwargs": {"width": 2}}, EnvError, "does not take these arguments"),
    ],
)
def test_mistakes_are_exceptions(
    arguments: tuple[Any, Any], settings: dict[str, Any], kind: type[Exception], fragment: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=re.escape(fragment)):
        train(*arguments, **{**TINY, **settings}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_games_are_counted_from_one(folder: Path) -> None:
    for arguments in ({"episodes": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="episodes must be at least 1 and seed not negative"):
            evaluate(folder, **arguments)
        with pytest.raises(ConfigError, match="episodes must be at least 1, scale 1 to 12, seed not negative"):
            record_video(folder, **arguments)


def test_it_prints_when_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("ppo", "CartPole-v1", **TINY, run_dir=tmp_path / "quiet")
    record_video(tmp_path / "quiet", out=tmp_path)
    assert capsys.readouterr().out == ""
    train("ppo", "CartPole-v1", **TINY, run_dir=tmp_path / "shown", progress=True)
    assert "pre-flight" in capsys.readouterr().out
    assert weights(tmp_path / "shown") == weights(tmp_path / "quiet")


def test_a_thread_trains_without_signal_handlers(tmp_path: Path, folder: Path) -> None:
    before, results = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(
        target=lambda: results.append(train("ppo", "CartPole-v1", **TINY, core="gru", seed=3, run_dir=tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert weights(results[0].folder) == weights(folder)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_package_is_light_to_import() -> None:
    code = "import sys, scripts.runner; assert 'torch' not in sys.modules and 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(ImportError):
        from scripts.runner import nothing_of_that_name  # noqa: F401


def act(agent: TrainedAgent, seed: int) -> list[Any]:
    """Return the actions of one episode."""
    env, actions = agent.make_env(), []
    obs, _ = env.reset(seed=seed)
    agent.reset()
    over = False
    while not over:
        actions.append(agent.predict(obs))
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        assert isinstance(reward, float)
        over = terminated or truncated
    env.close()
    return actions


def test_memory_is_kept_between_calls_and_cleared_by_reset(folder: Path) -> None:
    agent = load(folder)
    assert act(agent, 0) == act(agent, 0)
    obs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    agent.reset()
    alone = agent.predict(obs[0])
    carry = agent._carry
    agent.predict(obs[1])
    assert not torch.equal(carry, agent._carry)
    agent.predict(obs[0], first=True)
    assert torch.allclose(carry, agent._carry, atol=1e-6)
    with pytest.raises(ConfigError, match="call reset"):
        agent.predict(obs)
    agent.reset()
    batch = agent.predict(obs)
    assert batch.shape == (6,)
    assert batch[0] == alone
    one = agent._carry[2].clone()
    agent.predict(obs, first=np.arange(6) == 2)
    assert torch.allclose(agent._carry[2], one, atol=1e-6)


def test_predict_refuses_other_shapes(folder: Path) -> None:
    agent = load(folder)
    for wrong in (np.zeros(3, np.float32), np.zeros((2, 3), np.float32), {"obs": np.zeros(4, np.float32)}, 1.0):
        with pytest.raises(ConfigError, match="does not fit"):
            agent.predict(wrong)


def test_deterministic_takes_the_likeliest_action(folder: Path) -> None:
    agent = load(folder)
    obs = np.zeros((500, 4), np.float32)
    assert len(set(agent.predict(obs).tolist())) == 1
    agent.reset()
    assert len(set(agent.predict(obs, deterministic=False).tolist())) == 2
    agent.reset(seed=1)
    one = agent.predict(obs, deterministic=False)
    agent.reset(seed=1)
    assert (agent.predict(obs, deterministic=False) == one).all()


@pytest.mark.parametrize("algorithm", ["sb3-recurrent-ppo", "sb3-dqn"])
def test_baselines_are_loaded_too(algorithm: str, tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    result = train(algorithm, "CartPole-v1", **TINY, run_dir=tmp_path / "run")
    agent = load(result.folder)
    assert act(agent, 0) == act(agent, 0)
    agent.reset()
    assert agent.predict(np.zeros((3, 4), np.float32)).shape == (3,)


def test_a_factory_is_trained_loaded_and_resumed(walked: Path) -> None:
    assert read_record(walked).config.env == "custom/corridor"
    agent = load(walked, env=corridor)
    assert agent.make_env().unwrapped.observation_space["place"].shape == (1,)
    assert act(agent, 0) == act(agent, 0)
    batch = {"place": np.zeros((3, 1), np.float32), "side": np.zeros(3, np.int64)}
    agent.reset()
    assert agent.predict(batch).shape == (3,)
    steps = resume(walked, env=corridor, total_steps=600).env_steps
    assert steps >= 600
    assert evaluate(walked, episodes=2, env=corridor).episodes == 2


def test_without_its_factory_such_a_run_is_refused(walked: Path, folder: Path, monkeypatch: Any) -> None:
    for use in (load, evaluate, resume, record_video):
        with pytest.raises(ConfigError, match=r"environment factory \(custom/corridor\); give it again: env=factory"):
            use(walked)
    with pytest.raises(ConfigError, match="needs no environment factory"):
        load(folder, env=corridor)
    monkeypatch.delitem(gym.registry, "custom/corridor")
    commands = (
        ("evaluate", walked), ("watch", walked), ("train", "--resume", walked),
        ("train", "--from", walked, "--run-dir", walked.parent / "new"),
    )  # fmt: skip
    for command in commands:
        assert_one_line(call(*command), 2, "custom/corridor is an environment made by Python code", "env=factory")
    assert_one_line(call("watch", walked / "replays" / "train.jsonl"), 2, "custom/corridor cannot be made here")


def test_an_extended_run_equals_a_longer_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**TINY, "epsilon_steps": 100, "checkpoint_steps": 200}
    short = train("dqn", "CartPole-v1", **settings, total_steps=400, run_dir=tmp_path / "short").folder
    long = train("dqn", "CartPole-v1", **settings, total_steps=800, run_dir=tmp_path / "long").folder
    with pytest.raises(ConfigError, match="has already trained for its 400 env steps"):
        resume(short)
    with pytest.raises(ConfigError, match="above the run's 400, not 300"):
        resume(short, total_steps=300)
    assert read_record(short).config.total_steps == 400
    assert weights(short) != weights(long)
    resume(short, total_steps=800)
    assert weights(short) == weights(long)
    assert read_record(short).to_json()["config"] == read_record(long).to_json()["config"]


@pytest.mark.parametrize(("old", "equal"), [(192, True), (200, False)])
def test_an_extended_run_with_rollouts_equals_a_longer_one_after_a_whole_rollout(
    old: int, equal: bool, tmp_path: Path
) -> None:
    """No game of Pong ends in 400 steps, so a rollout has 64."""
    settings: dict[str, Any] = {**TINY, "schedule": "constant", "checkpoint_steps": old, "image_size": 44}
    short = train("ppo", "ALE/Pong-v5", **settings, total_steps=old, run_dir=tmp_path / "short").folder
    long = train("ppo", "ALE/Pong-v5", **settings, total_steps=400, run_dir=tmp_path / "long").folder
    resume(short, total_steps=400)
    assert (weights(short) == weights(long)) == equal


def test_a_run_resumes_from_its_latest_checkpoint_only(folder: Path) -> None:
    first = min(path.name for path in (folder / "checkpoints").glob("step_*"))
    with pytest.raises(ConfigError, match="resumes from its latest checkpoint"):
        resume(folder / "checkpoints" / first, total_steps=10_000)


def test_a_new_run_starts_from_the_weights_of_another(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    train("ppo", "CartPole-v1", **TINY, core="gru", seed=9, checkpoint_steps=1_000, initial_run=folder, run_dir=new)
    initial = read_record(new).initial_run
    assert initial is not None
    assert (initial.run, initial.weights_sha256) == (folder.name, weights(folder))
    state = json.loads((new / "checkpoints" / "step_000000000000" / "state.json").read_text())
    assert state["weights_sha256"] == weights(folder)
    assert weights(new) != weights(folder)
    with pytest.raises(ConfigError, match="has another observation space"):
        train("ppo", "Acrobot-v1", **TINY, core="gru", initial_run=folder, run_dir=tmp_path / "acrobot")
    with pytest.raises(CheckpointError, match="does not fit the network"):
        train("ppo", "CartPole-v1", **TINY, core="gru", core_size=8, initial_run=folder, run_dir=tmp_path / "small")
    assert not (tmp_path / "small" / "config.json").exists()


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    written = json.loads(json.dumps(read_record(folder).to_json()))
    assert written == {key: value for key, value in values.items() if key != "digest"}
    assert list(written) == [
        "algo", "env_id", "seed", "config", "card", "spaces", "machine_facts", "machine", "versions", "git", "command",
        "created", "run_id", "track", "videos", "labels", "encoders",
    ]  # fmt: skip


def test_the_command_starts_from_a_run_and_extends_one(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    done = call("train", "--from", folder / "checkpoints" / "best", "--track", "disabled", "--run-dir", new)
    assert done.code == 0, done.err
    record = read_record(new)
    assert record.initial_run is not None
    assert record.config.core == "gru"
    done = call("train", "--resume", new, "--total-steps", 600)
    assert done.code == 0, done.err
    assert "extended from 400 to 600 env steps" in done.out
    assert read_record(new).config.total_steps == 600
