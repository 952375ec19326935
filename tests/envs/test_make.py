"""Environments of every family: spaces, NEXT_STEP autoreset, raw rewards, single against vector, protocols, ids."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.ale import rom_name
from envs.errors import EnvError
from envs.make import check_id, family, make_env, make_envs, register_families, resolve_protocol
from envs.protocols import CLASSIC, MACHADO, NATIVE, PROTOCOLS, GameSpec, Protocol, fingerprint
from envs.video import render_frame

FAMILIES = {
    "CartPole-v1": "classic",
    "Acrobot-v1": "classic",
    "FrozenLake-v1": "classic",
    "LunarLander-v3": "box2d",
    "ALE/Pong-v5": "atari",
    "ALE/Breakout-v5": "atari",
    "MinAtar/Asterix-v1": "minatar",
    "MinAtar/Breakout-v1": "minatar",
    "MinAtar/Freeway-v1": "minatar",
    "MinAtar/Seaquest-v1": "minatar",
    "MinAtar/SpaceInvaders-v1": "minatar",
    "MiniGrid-Empty-5x5-v0": "minigrid",
    "MiniGrid-DoorKey-5x5-v0": "minigrid",
    "BabyAI-GoToRedBall-v0": "minigrid",
    "joypad/Counting-v0": "toy",
    "joypad/Chain-v0": "toy",
    "joypad/MemoryChain-v0": "toy",
    "joypad/EndlessReward-v0": "toy",
}
"""At least one environment of every family."""
SHORT = replace(CLASSIC, max_frames=160)
"""Truncates Atari games after 40 steps, so that tests reach the end."""


def protocol_of(env_id: str) -> str | Protocol:
    return SHORT if family(env_id) == "atari" else "auto"


def row(obs: Any, env: int) -> Any:
    return {key: value[env] for key, value in obs.items()} if isinstance(obs, dict) else obs[env]


def assert_same(a: Any, b: Any, message: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=f"{message} {key}")
    else:
        np.testing.assert_array_equal(a, b, err_msg=message)


def start_of(info: dict[str, Any]) -> dict[str, int] | None:
    """Return the number of no-ops of row 0's game, which the C++ environment draws from its own generator."""
    return {"noop_frames": int(info["episode_frame_number"][0])} if "episode_frame_number" in info else None


def shapes(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {key: (value.shape, value.dtype) for key, value in obs.items()}
    return obs.shape, obs.dtype


@pytest.mark.parametrize("env_id", FAMILIES)
def test_vector_environments_have_the_same_interface_in_every_family(env_id: str) -> None:
    envs = make_envs(env_id, 3, protocol_of(env_id), threads=1)
    rng = np.random.default_rng(0)
    obs, info = envs.reset(seed=[5, 6, 7])
    assert envs.game.family == FAMILIES[env_id] == family(env_id)
    assert envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP
    form = shapes(obs)
    done, returns, lengths = np.zeros(3, bool), np.zeros(3), np.zeros(3, int)
    ended: list[tuple[int, float, int]] = []
    recorded: list[tuple[int, float, int]] = []
    for _ in range(250):
        for env in range(3):
            assert envs.single_observation_space.contains(row(obs, env)), row(obs, env)
        obs, reward, terminated, truncated, info = envs.step(rng.integers(envs.single_action_space.n, size=3))
        assert shapes(obs) == form
        assert not (terminated & truncated & done).any()
        # the step after an end only resets: no reward, no end
        assert (reward[done] == 0).all()
        assert not (terminated | truncated)[done].any()
        returns, lengths = np.where(done, 0.0, returns + reward), np.where(done, 0, lengths + 1)
        done = terminated | truncated
        ended += [(env, float(returns[env]), int(lengths[env])) for env in np.flatnonzero(done)]
        recorded += [(record.env, record.episode_return, record.length) for record in info.get("episodes", ())]
        assert ("episodes" in info) == bool(done.any())
    assert recorded == ended
    if env_id not in ("Acrobot-v1", "MinAtar/Freeway-v1", "BabyAI-GoToRedBall-v0"):  # these have longer episodes
        assert ended
    envs.close()


@pytest.mark.parametrize("env_id", FAMILIES)
def test_a_single_environment_equals_row_0_of_the_vector(env_id: str) -> None:
    envs, env = make_envs(env_id, 2, protocol_of(env_id), threads=1), make_env(env_id, protocol_of(env_id))
    rng = np.random.default_rng(1)
    rows, info = envs.reset(seed=[11, 12])
    obs, _ = env.reset(seed=11, options=start_of(info))
    assert env.observation_space == envs.single_observation_space
    assert env.action_space == envs.single_action_space
    assert_same(row(rows, 0), obs, "at the start")
    over = False
    for step in range(150):
        actions = rng.integers(envs.single_action_space.n, size=2)
        rows, reward, terminated, truncated, info = envs.step(actions)
        if over:
            obs, _ = env.reset(options=start_of(info))
            over = False
        else:
            obs, single_reward, terminates, truncates, _ = env.step(actions[0])
            assert (single_reward, terminates, truncates) == (reward[0], terminated[0], truncated[0])
            over = bool(terminates or truncates)
        assert_same(row(rows, 0), obs, f"step {step}")
    envs.close()
    env.close()


@pytest.mark.parametrize("env_id", [env_id for env_id, kind in FAMILIES.items() if kind != "toy"])
def test_a_single_environment_renders_in_colour(env_id: str) -> None:
    env = make_env(env_id)
    env.reset(seed=0)
    for _ in range(3):
        env.step(1)
    frame = render_frame(env)
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    assert min(frame.shape[:2]) >= 84
    colours = np.unique(frame.reshape(-1, 3), axis=0)
    assert len(colours) > 1
    if family(env_id) in ("atari", "minatar", "minigrid"):
        assert (colours.max(axis=1) != colours.min(axis=1)).any()  # not all grey
    env.close()


def test_atari_renders_at_native_size() -> None:
    env = make_env("ALE/Pong-v5")
    env.reset(seed=0)
    assert np.asarray(env.render()).shape == (210, 160, 3)


def test_rewards_are_not_clipped() -> None:
    """Beam Rider's enemies are worth 44 points each."""
    envs = make_envs("ALE/BeamRider-v5", 4, threads=1)
    envs.reset(seed=[1, 2, 3, 4])
    rng = np.random.default_rng(0)
    rewards = np.concatenate([envs.step(rng.integers(9, size=4))[1] for _ in range(200)])
    assert rewards.max() == 44
    envs.close()


def test_all_104_atari_games_are_registered() -> None:
    register_families()
    games = sorted(env_id for env_id in gym.registry if env_id.startswith("ALE/") and env_id.endswith("-v5"))
    assert len(games) == 104
    for env_id in games:
        check_id(env_id)
        assert family(env_id) == "atari"
        assert resolve_protocol(env_id) == CLASSIC
    assert len({rom_name(env_id) for env_id in games}) == 104
    assert rom_name("ALE/MsPacman-v5") == "ms_pacman"


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "Pong-v4", "PongDeterministic-v0"])
def test_outdated_ids_of_atari_games_are_refused_with_the_current_one(env_id: str) -> None:
    with pytest.raises(EnvError, match="did you mean ALE/Pong-v5"):
        check_id(env_id)


@pytest.mark.parametrize(("env_id", "closest"), [
    ("CartPol-v1", "CartPole-v1, "), ("cartpole-v1", "CartPole-v1?"), ("ale/pong-v5", "ALE/Pong-v5?"),
    ("Pong-v5", "ALE/Pong-v5, "), ("Breakout-v1", "MinAtar/Breakout-v1, "), ("minatar/freeway-v1", "MinAtar/Freeway"),
])  # fmt: skip
def test_the_same_name_is_suggested_before_other_namespaces_and_versions(env_id: str, closest: str) -> None:
    with pytest.raises(EnvError) as raised:
        check_id(env_id)
    assert f"did you mean {closest}" in str(raised.value)


def test_only_the_package_of_the_environment_is_imported() -> None:
    """Importing MinAtar takes a second, because it imports plotting libraries."""
    code = (
        "import sys; from envs.make import check_id, family\n"
        "check_id('CartPole-v1'); check_id('ALE/Pong-v5'); family('MinAtar/Breakout-v1')\n"
        "assert not {'minatar', 'minigrid', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("folder", [None, ""])
def test_rendering_prints_nothing(folder: str | None) -> None:
    """Without XDG_RUNTIME_DIR, as on a server, SDL prints an error."""
    environment = {key: value for key, value in os.environ.items() if key not in ("XDG_RUNTIME_DIR", "SDL_VIDEODRIVER")}
    code = "from envs.make import make_env; env = make_env('CartPole-v1'); env.reset(); env.render()"
    environment |= {} if folder is None else {"XDG_RUNTIME_DIR": folder}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# -- protocols ---------------------------------------------------------------------------------------------------------


def test_protocols_have_these_settings() -> None:
    table = {
        "name": ("classic", "machado", "native"),
        "repeat_action_probability": (0.0, 0.25, 0.0),
        "noop_max": (30, 0, 0),
        "fire_reset": (True, False, False),
        "full_action_space": (False, True, False),
        "life_information": (True, False, False),
        "frame_skip": (4, 4, 1),
        "max_frames": (108_000, 108_000, 0),
        "image_size": (84, 84, 0),
        "frame_stack": (4, 4, 1),
        "grayscale": (True, True, False),
    }
    assert set(table) == {field.name for field in fields(Protocol)}
    for number, protocol in enumerate((CLASSIC, MACHADO, NATIVE)):
        assert asdict(protocol) == {setting: values[number] for setting, values in table.items()}
    assert list(PROTOCOLS) == ["classic", "machado", "native"]


def test_protocols_reach_the_emulator() -> None:
    for name, actions in (("classic", 6), ("machado", 18)):
        envs, env = make_envs("ALE/Pong-v5", 1, name), make_env("ALE/Pong-v5", name)
        assert envs.single_action_space.n == env.action_space.n == actions
        sticky = env.unwrapped.ale.getFloat("repeat_action_probability")  # type: ignore[attr-defined]
        assert sticky == PROTOCOLS[name].repeat_action_probability
        assert envs.single_observation_space.shape == (4, 84, 84)
        envs.close()


def starts(protocol: Protocol) -> set[bytes]:
    """Return the distinct first frames of four seeds."""
    envs = make_envs("ALE/Breakout-v5", 4, protocol, threads=1)
    obs, _ = envs.reset(seed=list(range(4)))
    first_frames = [bytes(frame[-1]) for frame in obs]
    envs.close()
    return set(first_frames)


def test_noops_vary_the_start_and_sticky_actions_the_course_of_a_game() -> None:
    seaquest = {}
    for name in ("classic", "machado"):
        protocol = replace(PROTOCOLS[name], noop_max=0, full_action_space=True)
        envs = make_envs("ALE/Seaquest-v5", 4, protocol, threads=1)
        envs.reset(seed=[1, 2, 3, 4])
        rng = np.random.default_rng(0)
        for _ in range(40):
            obs = envs.step(np.full(4, rng.integers(18)))[0]
        seaquest[name] = len({bytes(part) for part in obs})
        envs.close()
    assert seaquest == {"classic": 1, "machado": 4}
    assert len(starts(CLASSIC)) > 1
    assert len(starts(MACHADO)) == 1


def test_a_protocol_that_does_not_fit_is_refused() -> None:
    for env_id, name in (("CartPole-v1", "machado"), ("ALE/Pong-v5", "native")):
        with pytest.raises(EnvError, match=f"{name} does not fit {env_id}"):
            resolve_protocol(env_id, name)
    with pytest.raises(EnvError, match="unknown protocol 'x'; choose from classic, machado, native"):
        resolve_protocol("ALE/Pong-v5", "x")
    with pytest.raises(EnvError, match="only Atari games have an image size"):
        resolve_protocol("CartPole-v1", image_size=42)
    assert resolve_protocol("ALE/Pong-v5", "machado", 42) == replace(MACHADO, image_size=42)


VARIANTS: list[tuple[str, Protocol, dict[str, Any]]] = [
    ("ALE/Pong-v5", CLASSIC, {}),
    ("ALE/Breakout-v5", CLASSIC, {}),
    ("ALE/Pong-v5", CLASSIC, {"mode": 1}),
    ("ALE/Pong-v5", CLASSIC, {"mode": 2}),
    ("ALE/Pong-v5", CLASSIC, {"difficulty": 1}),
    ("ALE/Pong-v5", replace(CLASSIC, name="mine"), {}),
    ("ALE/Pong-v5", replace(CLASSIC, repeat_action_probability=0.25), {}),
    ("ALE/Pong-v5", replace(CLASSIC, noop_max=0), {}),
    ("ALE/Pong-v5", replace(CLASSIC, fire_reset=False), {}),
    ("ALE/Pong-v5", replace(CLASSIC, full_action_space=True), {}),
    ("ALE/Pong-v5", replace(CLASSIC, life_information=False), {}),
    ("ALE/Pong-v5", replace(CLASSIC, frame_skip=5), {}),
    ("ALE/Pong-v5", replace(CLASSIC, max_frames=18_000), {}),
    ("ALE/Pong-v5", replace(CLASSIC, image_size=42), {}),
    ("ALE/Pong-v5", replace(CLASSIC, frame_stack=1), {}),
    ("ALE/Pong-v5", replace(CLASSIC, grayscale=False), {}),
    ("ALE/Pong-v5", MACHADO, {}),
]


def print_of(env_id: str, protocol: Protocol, env_kwargs: dict[str, Any]) -> str:
    return GameSpec(env_id, env_kwargs, protocol, family(env_id)).fingerprint


def test_any_changed_setting_changes_the_fingerprint() -> None:
    prints = [print_of(*variant) for variant in VARIANTS]
    assert len(prints) >= 12
    for (a, one), (b, two) in itertools.combinations(enumerate(prints), 2):
        assert one != two, (VARIANTS[a], VARIANTS[b])


def test_the_list_covers_every_setting_of_a_protocol() -> None:
    changed = {
        field.name
        for _, protocol, _ in VARIANTS
        for field in fields(Protocol)
        if getattr(protocol, field.name) != getattr(CLASSIC, field.name)
    }
    assert changed == {field.name for field in fields(Protocol)}


def test_fingerprints_do_not_depend_on_the_order_of_arguments() -> None:
    for variant in VARIANTS:
        assert print_of(*variant) == print_of(*variant)
    a = print_of("ALE/Pong-v5", CLASSIC, {"mode": 1, "difficulty": 1})
    assert a == print_of("ALE/Pong-v5", CLASSIC, {"difficulty": 1, "mode": 1})
    game = GameSpec("CartPole-v1", {"a": 1}, NATIVE, "classic")
    values = json.loads(json.dumps(game.to_json()))
    assert values["fingerprint"] == game.fingerprint
    assert fingerprint(values["env_id"], values["env_kwargs"], values["protocol"]) == game.fingerprint
    assert len(game.fingerprint) == 12


def test_the_json_of_a_game_keeps_its_keys_and_its_fingerprint() -> None:
    values = GameSpec("CartPole-v1", {"a": 1}, NATIVE, "classic").to_json()
    assert list(values) == ["env_id", "env_kwargs", "protocol", "family", "frame_stack", "fingerprint"]
    assert values["protocol"]["name"] == "native"
    assert GameSpec("ALE/Pong-v5", {}, CLASSIC, "atari").fingerprint == "455c7a1c4ee5"


def test_the_vector_carries_the_spec_of_its_game() -> None:
    envs = make_envs("ALE/Pong-v5", 1, replace(MACHADO, image_size=42))
    assert envs.game == GameSpec("ALE/Pong-v5", {}, replace(MACHADO, image_size=42), "atari")
    assert envs.single_observation_space.shape == (4, 42, 42)
    envs.close()


def test_machado_hides_lives_from_the_learner() -> None:
    for protocol, visible in (("classic", True), ("machado", False)):
        envs = make_envs("ALE/Breakout-v5", 2, protocol, threads=1)
        _, info = envs.reset(seed=1)
        *_, later = envs.step(np.zeros(2, int))
        assert ("lives" in info, "lives" in later) == (visible, visible)


@pytest.mark.parametrize("game", ["Breakout", "Asterix", "Seaquest", "SpaceInvaders"])
def test_minatar_games_after_a_seed_are_independent_of_earlier_games(game: str) -> None:
    used, fresh = (make_envs(f"MinAtar/{game}-v1", 4) for _ in range(2))
    rng = np.random.default_rng(0)
    for seed in range(12):
        used.reset(seed=1000 + seed)
        for _ in range(7):
            used.step(rng.integers(1, 3, size=4))
        starts = [envs.reset(seed=seed)[0] for envs in (used, fresh)]
        np.testing.assert_array_equal(*starts)
        for action in rng.integers(1, 3, size=(5, 4)):
            np.testing.assert_array_equal(used.step(action)[0], fresh.step(action)[0])
        fresh = make_envs(f"MinAtar/{game}-v1", 4)


def test_float_images_keep_their_values_and_channels_first_images_their_axes() -> None:
    class Grey(gym.Env):
        action_space = gym.spaces.Discrete(2)

        def __init__(self, shape: tuple[int, ...]):
            self.observation_space = gym.spaces.Box(0.0, 1.0, shape, np.float32)

        def reset(self, *, seed=None, options=None):
            return np.full(self.observation_space.shape, 0.7, np.float32), {}

    for shape in ((24, 20, 3), (3, 24, 20)):
        gym.register("Grey-v0", Grey, kwargs={"shape": shape})
        obs, _ = make_envs("Grey-v0", 1).reset(seed=0)
        gym.registry.pop("Grey-v0")
        assert obs.shape == (1, 3, 24, 20)
        assert obs.dtype == np.float32
        assert (obs == np.float32(0.7)).all()
