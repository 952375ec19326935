"""Pretrained encoders of agents: frozen beside the game, or trained inside the network; runs hold copies."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.run import checkpoint
from envs.make import make_envs
from networks.encoders import reuse, store
from networks.encoders.base import Encoder, build
from scripts.runner.environments import environments
from scripts.runner.saved_run import load_run
from tests.scripts.inside import assert_one_line, call
from tests.scripts.runner import kill_once_beyond

GRID, MINATAR, NOISY = "MiniGrid-Empty-5x5-v0", "MinAtar/Breakout-v1", "ALE/Breakout-v5"
QUIET = ("--preset", "tiny", "--track", "disabled")
pytestmark = pytest.mark.usefixtures("no_report")


def encoder_for(env: str, key: str, arch: str, folder: Path) -> Encoder:
    """Save an encoder with weights like no other's."""
    envs = make_envs(env, 1)
    space = envs.single_observation_space
    envs.close()
    torch.manual_seed(7)
    encoder = build(arch, space[key] if isinstance(space, spaces.Dict) else space)
    for parameter in encoder.parameters():
        parameter.data.normal_(0.0, 0.1)
    facts = {"task": "made up", "examples": 3, "seconds": 1.0, "data": {"env_frames": 123}}
    store.save(folder, encoder, {}, facts, {})
    return encoder


def train(algorithm: str, env: str, folder: Path, *words: object) -> Any:
    """Train for 200 steps: what these tests check is there after few updates."""
    return call("train", algorithm, "--env", env, *QUIET, "--total-steps", 200, "--run-dir", folder, *words)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sb3-dqn"])
def test_a_frozen_encoder_replaces_its_part_of_the_observation(algorithm: str, tmp_path: Path) -> None:
    encoder = encoder_for(GRID, "mission", "gru", tmp_path / "e")
    done = train(algorithm, GRID, tmp_path / "run", "--encoder", f"mission={tmp_path / 'e'}")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["encoders"]["mission"] | {"sha256": ""} == {
        "mode": "freeze", "sha256": "", "arch": "gru", "env_frames": 123, "task": "made up", "examples": 3,
        "seconds": 1.0,
    }  # fmt: skip
    assert "encoder of 'mission': gru of made up, freeze; trained on 123 env frames" in done.out
    assert "Box(-inf, inf, (128,), float32)" in record["spaces"]["observation"]
    shutil.rmtree(tmp_path / "e")  # the run has a copy
    saved = load_run(tmp_path / "run")
    plain = make_envs(GRID, 2)
    shown = environments(saved.config, 2)
    with torch.no_grad():
        mission = plain.reset(seed=[1, 2])[0]["mission"]
        raw = encoder.eval()(torch.from_numpy(mission)).numpy()
    expected = (raw - raw.mean(axis=1, keepdims=True)) / np.sqrt(raw.var(axis=1, keepdims=True) + 1e-5)
    assert np.allclose(shown.reset(seed=[1, 2])[0]["mission"], expected, atol=1e-6)
    done = call("evaluate", tmp_path / "run", "--episodes", 2)
    assert done.code == 0, done.err
    done = call("compare", tmp_path / "run", "--out", tmp_path / "page.html")  # the page shows runs with encoders
    assert done.code == 0, done.err


def test_features_of_texts_are_cached_and_those_of_images_are_not() -> None:
    from envs.wrappers import FrozenFeatures

    calls: list[int] = []

    def read(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        return x.reshape(len(x), -1)[:, :3].astype(np.float32)

    envs = FrozenFeatures(make_envs(GRID, 3), {"mission": (read, 3), "image": (read, 3)})
    obs, _ = envs.reset(seed=[1, 2, 3])
    assert obs["mission"].shape == obs["image"].shape == (3, 3)
    assert envs.single_observation_space.contains({key: part[0] for key, part in obs.items()})
    assert calls == [1, 3]  # all have one mission
    envs.step(np.zeros(3, int))
    assert calls == [1, 3, 3]
    envs.close()


def test_cached_features_belong_to_their_rows() -> None:
    from envs.wrappers import FrozenFeatures

    plain, envs = (make_envs("CartPole-v1", 4) for _ in range(2))
    envs = FrozenFeatures(envs, {"obs": (lambda x: x[:, :2], 2)})
    np.testing.assert_array_equal(envs.reset(seed=0)[0], plain.reset(seed=0)[0][:, :2])
    for _ in range(3):
        np.testing.assert_array_equal(envs.step(np.ones(4, int))[0], plain.step(np.ones(4, int))[0][:, :2])


def start_and_end(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of a run's first encoder when it began (the best one was never better) and at its end."""
    saved = load_run(folder)
    (each,) = reuse.pretrained(saved.agent.model)
    return each.trained, each.encoder.state_dict()


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("mode", ["finetune", "layerwise"])
def test_a_trainable_encoder_starts_with_its_pretrained_weights(algorithm: str, mode: str, tmp_path: Path) -> None:
    encoder = encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    words = ("--encoder", f"obs={tmp_path / 'e'}", "--encoder-mode", f"obs={mode}", "--learning-rate", 0.01)
    done = train(algorithm, MINATAR, tmp_path / "run", *words)
    assert done.code == 0, done.err
    trained, now = start_and_end(tmp_path / "run")
    for key, value in encoder.state_dict().items():
        assert torch.equal(trained[key], value)
    moved = {key: float((now[key] - trained[key]).abs().max()) for key in trained if key.endswith("weight")}
    assert all(amount > 0 for amount in moved.values())
    if mode == "layerwise":  # Adam moves each weight by about the rate: a tenth of it above, a twentieth below
        assert moved["torso.convs.0.weight"] < moved["torso.fc.0.weight"]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("late", [False, True])
def test_an_encoder_stays_frozen_until_unfreeze_at(algorithm: str, late: bool, tmp_path: Path) -> None:
    encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    words = ("--encoder", f"obs={tmp_path / 'e'}", "--encoder-mode", "obs=finetune", "--learning-rate", 0.01)
    done = train(algorithm, MINATAR, tmp_path / "run", *words, "--unfreeze-at", 1_000_000 if late else 100)
    assert done.code == 0, done.err
    trained, now = start_and_end(tmp_path / "run")
    assert all(torch.equal(now[key], value) for key, value in trained.items()) == late
    agent = load_run(tmp_path / "run").agent
    agent.set_encoders_trainable(99)
    (each,) = reuse.pretrained(agent.model)
    assert not any(weight.requires_grad for weight in each.encoder.parameters())
    assert all(weight.requires_grad for weight in each.reader.parameters())
    agent.set_encoders_trainable(1_000_000)
    assert all(weight.requires_grad for weight in each.parameters())
    if algorithm == "dqn":
        target = agent.modules()["target"]
        assert not any(weight.requires_grad for weight in target.parameters())


def test_layerwise_learning_rates(tmp_path: Path) -> None:
    encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    words = ("--encoder", f"obs={tmp_path / 'e'}", "--encoder-mode", "obs=layerwise", "--encoder-lr-scale", 0.2,
             "--encoder-lr-decay", 0.25, "--learning-rate", 0.008)  # fmt: skip
    done = train("dqn", MINATAR, tmp_path / "run", *words)
    assert done.code == 0, done.err
    agent = load_run(tmp_path / "run").agent
    rates = [float(group["lr"]) for group in agent.optimizer.param_groups]
    assert rates == pytest.approx([0.008, 0.008 * 0.2, 0.008 * 0.2 * 0.25])
    agent.learning_rate.fill_(0.004)
    agent.model.zero_grad()
    loss = sum(parameter.square().sum() for parameter in agent.model.parameters())
    agent.gradient_step(loss, 10.0)
    assert [float(group["lr"]) for group in agent.optimizer.param_groups] == pytest.approx([0.004, 0.0008, 0.0002])


def test_a_target_network_starts_with_the_pretrained_weights(tmp_path: Path) -> None:
    encoder = encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    words = ("--encoder", f"obs={tmp_path / 'e'}", "--encoder-mode", "obs=finetune", "--learning-starts", 100_000)
    done = train("dqn", MINATAR, tmp_path / "run", *words, "--replay-capacity", 100_000)
    assert done.code == 0, done.err
    agent = load_run(tmp_path / "run").agent
    for network in agent.modules().values():
        for each in reuse.pretrained(network):
            for key, value in encoder.state_dict().items():
                assert torch.equal(each.encoder.state_dict()[key], value)
    assert sum(1 for network in agent.modules().values() for _ in reuse.pretrained(network)) == 2


def test_a_killed_layerwise_run_resumes_exactly(tmp_path: Path) -> None:
    encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    words = ["ppo", "--env", MINATAR, *QUIET, "--total-steps", 600, "--checkpoint-steps", 200, "--encoder",
             f"obs={tmp_path / 'e'}", "--encoder-mode", "obs=layerwise"]  # fmt: skip
    done = call("train", *words, "--run-dir", tmp_path / "whole")
    assert done.code == 0, done.err
    kill_once_beyond(200, tmp_path / "cut", *words, "--run-dir", tmp_path / "cut", within=0.0)
    shutil.rmtree(tmp_path / "e")
    done = call("train", "--resume", tmp_path / "cut")
    assert done.code == 0, done.err
    found = {
        checkpoint.read_state(checkpoint.resolve(tmp_path / name / "checkpoints"))["weights_sha256"]
        for name in ("whole", "cut")
    }
    assert len(found) == 1


BAD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no such key": (("--encoder", "screen={e}"), ("keys direction, image, mission", "given for 'screen'")),
    "other part": (("--encoder", "image={e}"), ("expects int64 ids", "'image' is uint8 box")),
    "no folder": (("--encoder", "mission=nowhere"), ("holds no encoder",)),
    "no path": (("--encoder", "mission"), ("takes KEY=RUN",)),
    "bad mode": (("--encoder", "mission={e}", "--encoder-mode", "mission=melt"), ("freeze|finetune|layerwise",)),
    "mode without": (("--encoder-mode", "mission=freeze"), ("has no --encoder",)),
    "scale": (("--encoder", "mission={e}", "--encoder-lr-scale", "0"), ("must lie in 0 to 1",)),
}


@pytest.mark.parametrize("name", BAD)
def test_an_encoder_that_does_not_fit_is_one_line(name: str, tmp_path: Path) -> None:
    words, fragments = BAD[name]
    encoder_for(GRID, "mission", "gru", tmp_path / "e")
    given = [word.format(e=tmp_path / "e") for word in words]
    assert_one_line(train("ppo", GRID, tmp_path / "run", *given), 2, *fragments)
    assert not (tmp_path / "run").exists()


def test_a_baseline_takes_frozen_encoders_only(tmp_path: Path) -> None:
    encoder_for(GRID, "mission", "gru", tmp_path / "e")
    words = ("--encoder", f"mission={tmp_path / 'e'}", "--encoder-mode", "mission=finetune")
    assert_one_line(train("sb3-dqn", GRID, tmp_path / "run", *words), 2, "freeze")


@pytest.fixture(scope="module")
def ear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound encoder as pretrain.py saves it, from a game whose random play is short."""
    folder = tmp_path_factory.mktemp("sounds") / "ear"
    done = call("pretrain", "game-sounds", "--examples", 100, "--epochs", 1, "--threads", 1, "--no-baselines",
                "--env", NOISY, "--run-dir", folder)  # fmt: skip
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_an_agent_uses_a_pretrained_sound_encoder(algorithm: str, ear: Path, tmp_path: Path) -> None:
    for mode in ("freeze", "finetune"):
        run = tmp_path / mode
        words = ("--env-kwargs", "sound", "True", "--encoder", f"sound={ear}", "--encoder-mode", f"sound={mode}")
        done = train(algorithm, NOISY, run, *words, "--num-envs", 2)
        assert done.code == 0, done.err
        assert load_run(run).config.encoders()["sound"][1] == mode


def test_an_encoder_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    encoder = encoder_for(GRID, "mission", "gru", tmp_path / "e")
    encoder.spec = replace(encoder.spec, input={**encoder.spec.input, "vocabulary": "0" * 64})
    store.save(tmp_path / "e", encoder, {}, {"task": "made up"}, {})
    done = train("ppo", GRID, tmp_path / "run", "--encoder", f"mission={tmp_path / 'e'}")
    assert_one_line(done, 2, "learned other words than the games'; train it anew")


def test_an_encoder_of_repaired_observations_needs_the_same_repair(tmp_path: Path) -> None:
    encoder = encoder_for("CartPole-v1", "obs", "mlp", tmp_path / "e")
    encoder.spec = replace(encoder.spec, preprocess={"repair": "knn"})
    store.save(tmp_path / "e", encoder, {}, {"task": "made up"}, {})
    words = ("--encoder", f"obs={tmp_path / 'e'}", "--env-kwargs", "drop", 0.2)
    for mode in ("freeze", "finetune"):
        given = (*words, "--encoder-mode", f"obs={mode}")
        assert_one_line(train("ppo", "CartPole-v1", tmp_path / "run", *given), 2, "give --repair knn")
        done = train("ppo", "CartPole-v1", tmp_path / mode, *given, "--repair", "knn")
        assert done.code == 0, done.err


def test_features_of_frames_are_read_by_a_torso_of_vectors(tmp_path: Path) -> None:
    encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    done = train("ppo", MINATAR, tmp_path / "run", "--encoder", f"obs={tmp_path / 'e'}", "--torso", "minatar")
    assert done.code == 0, done.err
    torso = load_run(tmp_path / "run").agent.model.torso
    assert not any(isinstance(part, torch.nn.Conv2d) for part in torso.modules())


@pytest.mark.parametrize("fusion", ["film", "attention"])
@pytest.mark.parametrize("mode", ["freeze", "finetune"])
def test_missions_change_the_features_of_images(fusion: str, mode: str, tmp_path: Path) -> None:
    encoder_for(GRID, "image", "bow", tmp_path / "e")
    words = ("--encoder", f"image={tmp_path / 'e'}", "--encoder-mode", f"image={mode}", "--fusion", fusion)
    done = train("ppo", GRID, tmp_path / "run", *words)
    if (fusion, mode) == ("attention", "freeze"):
        assert_one_line(done, 2, "needs an image's feature map, but the input is a feature vector; use film")
    else:
        assert done.code == 0, done.err


def test_features_have_one_size_for_every_width(tmp_path: Path) -> None:
    encoder = encoder_for(MINATAR, "obs", "minatar", tmp_path / "e")
    x = torch.randint(0, 2, (5, *make_envs(MINATAR, 1).single_observation_space.shape), dtype=torch.uint8)
    small = reuse.features(encoder, x)
    assert torch.allclose(small.mean(dim=1), torch.zeros(5), atol=1e-5)
    assert torch.allclose(small.std(dim=1, unbiased=False), torch.ones(5), atol=1e-2)
    with torch.no_grad():
        for parameter in encoder.torso.fc.parameters():  # type: ignore[union-attr]
            parameter *= 50.0
    assert torch.allclose(reuse.features(encoder, x), small, atol=1e-2)


@pytest.mark.parametrize("fusion", ["concat", "film", "kernels"])
def test_features_are_equal_beside_the_game_and_inside_the_network(fusion: str, tmp_path: Path) -> None:
    encoder_for(GRID, "mission", "gru", tmp_path / "e")
    agents, shown = {}, {}
    for mode in ("freeze", "layerwise"):
        words = ("--encoder", f"mission={tmp_path / 'e'}", "--encoder-mode", f"mission={mode}", "--fusion", fusion)
        done = train("ppo", GRID, tmp_path / mode, *words, "--learning-rate", 1e-9)
        assert done.code == 0, done.err
        saved = load_run(tmp_path / mode)
        envs = environments(saved.config, 3)
        agents[mode], shown[mode] = saved.agent, envs.reset(seed=[1, 2, 3])[0]
        envs.close()
    frozen, inside = agents["freeze"].model, agents["layerwise"].model
    (each,) = reuse.pretrained(inside)
    each.restore()
    own = {key.replace("mission.", "mission.reader."): key for key in frozen.state_dict() if "mission." in key}
    own |= {key: key for key in frozen.state_dict() if "mission." not in key}
    weights = {key: frozen.state_dict()[own[key]] for key in inside.state_dict() if key in own}
    assert len(weights) == len(frozen.state_dict())
    inside.load_state_dict(weights, strict=False)
    values, first = {}, np.ones(3, bool)
    for mode, agent in agents.items():
        obs = {key: torch.from_numpy(np.asarray(part)) for key, part in shown[mode].items()}
        output, _ = agent.model(obs, agent.initial_carry(3), torch.from_numpy(first))
        (output.value.sum() + output.policy.square().sum()).backward()
        values[mode] = output.value.detach()
    assert torch.allclose(values["freeze"], values["layerwise"], atol=1e-5)
    gradients = {key: part.grad for key, part in inside.named_parameters()}
    for key, part in frozen.named_parameters():
        theirs = gradients[key.replace("mission.", "mission.reader.")]
        assert part.grad is not None
        assert theirs is not None
        assert torch.allclose(part.grad, theirs, atol=1e-5)
