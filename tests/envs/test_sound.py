"""Sound observations: images as without sound, samples of every frame, and games that can be replayed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.action_replays import previous_episodes, verify
from envs.ale import SAMPLES_PER_FRAME, AtariGame
from envs.errors import EnvError
from envs.make import make_env, make_envs
from envs.protocols import CLASSIC, MACHADO
from networks.torsos.build import build_torso, torso_name
from networks.torsos.sound import Spectrum, is_sound

GAME = "ALE/SpaceInvaders-v5"


def test_images_are_the_same_and_sound_covers_every_frame() -> None:
    audible, silent = AtariGame(GAME, CLASSIC, sound=True), AtariGame(GAME, CLASSIC, "rgb_array")
    frames: list[np.ndarray] = []
    silent.on_frame = lambda rgb, samples: frames.append(samples.copy())
    obs, _ = audible.reset(seed=3)
    assert audible.observation_space.contains(obs)
    assert (obs["sound"] == 128).all()
    assert np.array_equal(obs["image"], silent.reset(seed=3)[0])
    rng, loud = np.random.default_rng(0), 0
    for _ in range(60):
        action = int(rng.integers(6))
        frames.clear()
        obs, reward, *_ = audible.step(action)
        picture, same, *_ = silent.step(action)
        assert np.array_equal(obs["image"], picture)
        assert reward == same
        assert np.array_equal(obs["sound"], np.concatenate(frames))
        loud += int((obs["sound"] != 128).any())
    assert loud > 20


def test_a_reset_silences_the_sound() -> None:
    env = AtariGame("ALE/Freeway-v5", MACHADO, sound=True)
    env.reset(seed=0)
    for _ in range(10):
        obs, *_ = env.step(1)
    assert (obs["sound"] != 128).any()
    assert (env.reset()[0]["sound"] == 128).all()
    assert obs["sound"].shape == (4 * SAMPLES_PER_FRAME,)


def test_games_with_sound_can_be_replayed() -> None:
    envs = make_envs("ALE/Pong-v5", 2, env_kwargs={"sound": True})
    assert envs.single_observation_space["sound"].shape == (2048,)
    assert envs.game.fingerprint != make_envs("ALE/Pong-v5", 1).game.fingerprint
    envs.reset(seed=[4, 5])
    rng, records = np.random.default_rng(0), []
    while len(records) < 3:
        *_, info = envs.step(rng.integers(6, size=2))
        records += info.get("episodes", [])
    for index, record in enumerate(records):
        verify(record, previous_episodes(records, index), make_env)


def test_only_atari_games_have_sound() -> None:
    with pytest.raises(EnvError, match="does not take these arguments"):
        make_env("CartPole-v1", env_kwargs={"sound": True})
    assert isinstance(make_env("ALE/Pong-v5", env_kwargs={"sound": False}).observation_space, spaces.Box)


def test_the_spectrum_peaks_at_a_tone_and_is_0_for_silence() -> None:
    space = spaces.Box(0, 255, (2048,), np.uint8)
    torso = Spectrum(space)
    time = np.arange(2048)
    tone = np.stack([np.full(2048, 128), 128 + 100 * np.sin(2 * np.pi * time * 32 / 256)]).astype(np.uint8)
    spectrum = torso.spectrum(torch.from_numpy(tone))
    assert spectrum.shape == (2, 17, 129)
    assert not spectrum[0].any()
    assert (spectrum[1, 1:-1].argmax(dim=1) == 32).all()
    assert torso(torch.from_numpy(tone)).shape == (2, torso.out_dim)
    assert torso_name(space) == "sound"
    both = build_torso(spaces.Dict({"image": spaces.Box(0, 255, (4, 84, 84), np.uint8), "sound": space}))
    assert both.out_dim == 512 + torso.out_dim


@pytest.mark.parametrize("space", [
    spaces.Box(0, 255, (128,), np.uint8), spaces.Box(-1, 1, (2048,), np.float32),
    spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(3),
])  # fmt: skip
def test_other_spaces_are_not_sound(space: spaces.Space) -> None:
    assert not is_sound(space)
    with pytest.raises(ValueError, match="does not read observations"):
        build_torso(space, "sound")
