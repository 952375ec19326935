"""Make environments: a vector of them to train on, one to watch. Both see and score the same game."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import io
import re
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym

from envs import toy
from envs.action_replays import RecordEpisodes
from envs.ale import AtariGame, rom_name
from envs.errors import EnvError
from envs.missions import GridPlanes, MissionPairs, StrictMission
from envs.protocols import CLASSIC, NATIVE, PROTOCOLS, GameSpec, Protocol
from envs.sensors import DropSensor, Flicker, NoisyObs
from envs.wrappers import ChannelsFirst, SeededMinAtar, bounded_actions

EXTRAS = {"MinAtar": ("minatar", "games"), "MiniGrid": ("minigrid", "games"), "BabyAI": ("minigrid", "games")}
"""Family -> the package it needs, and the extra of pyproject.toml that brings it."""


FLICKER, DROP, NOISE, SALT = "flicker", "drop", "noise", "salt"
"""Arguments that any game takes whose observations are such: what its sensors do wrong."""
SENSORS = (FLICKER, DROP, NOISE, SALT)
SOUND = "sound"
"""The argument of Atari's games that lets them be heard."""
TRUE = (True, 1, "True", "true")
STRICT, PAIRS = "strict", "pairs"
"""Arguments that MiniGrid's games take: wrong objects end a game, and which missions are drawn."""


def register_families() -> None:
    """Make every installed family known to Gymnasium."""
    toy.register()
    importlib.import_module("ale_py")
    with contextlib.suppress(ImportError):
        importlib.import_module("minigrid")
    with contextlib.suppress(ImportError):
        if "MinAtar/Breakout-v1" not in gym.registry:
            importlib.import_module("minatar.gym").register_envs()


def family(env_id: str) -> str:
    """Return the family that presets and protocols go by: atari, minatar, minigrid, toy, box2d or classic."""
    register_families()
    namespace = env_id.split("/")[0] if "/" in env_id else env_id.split("-")[0]
    named = {"ALE": "atari", "MinAtar": "minatar", "MiniGrid": "minigrid", "BabyAI": "minigrid", "joypad": "toy"}
    if namespace in named:
        return named[namespace]
    spec = gym.registry.get(env_id)
    if spec is not None and str(spec.entry_point).startswith("ale_py"):
        return "atari"  # under a name of old, such as PongNoFrameskip-v4, which check_id refuses
    return "box2d" if spec is not None and "box2d" in str(spec.entry_point) else "classic"


def check_id(env_id: str) -> None:
    """Raise EnvError unless the environment exists here: offer the closest names, or the pip line that it needs."""
    register_families()
    if env_id in gym.registry and (family(env_id) != "atari" or env_id.endswith("-v5")):
        return
    namespace = env_id.replace("/", "-").split("-")[0]
    package, extra = EXTRAS.get(namespace, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise EnvError(f"{env_id} needs the package {package}: pip install -c constraints.txt -e '.[{extra}]'")
    old = {name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("ale_py")}
    names = {name.lower(): name for name in gym.registry if name not in old or name.endswith("-v5")}
    short = {name.split("/")[-1].lower(): name for name in names.values()}
    close = difflib.get_close_matches(env_id.lower(), names, 3, 0.5)
    bare = re.sub(r"-ram|NoFrameskip|Deterministic", "", env_id.split("/")[-1]).lower()
    close += difflib.get_close_matches(bare, short, 3, 0.6)
    offers = list(dict.fromkeys((names | short)[name] for name in close))[:3]
    raise EnvError(f"unknown environment '{env_id}'" + (f"; did you mean {', '.join(offers)}?" if offers else ""))


def resolve_protocol(env_id: str, name: str = "auto", image_size: int | None = None) -> Protocol:
    """Return the protocol called `name`, or the family's own for "auto"; raise EnvError where it makes no sense."""
    check_id(env_id)
    atari = family(env_id) == "atari"
    if name == "auto":
        protocol = CLASSIC if atari else NATIVE
    elif name in PROTOCOLS:
        protocol = PROTOCOLS[name]
    else:
        raise EnvError(f"unknown protocol '{name}'; there are {', '.join(PROTOCOLS)}")
    if atari != (protocol.frame_skip > 1):
        fitting = "classic or machado" if atari else "native"
        raise EnvError(f"the protocol {protocol.name} does not fit {env_id}; use {fitting}")
    if image_size is not None:
        if not atari:
            raise EnvError(f"an image size can be chosen for Atari games only, not for {env_id}")
        protocol = replace(protocol, image_size=image_size)
    return protocol


def make_envs(
    env_id: str,
    num_envs: int,
    protocol: str | Protocol = "auto",
    env_kwargs: dict[str, Any] | None = None,
    threads: int = 0,
) -> RecordEpisodes:
    """Make `num_envs` environments stepped together, for training and judging.

    Raw rewards, full episodes, NEXT_STEP autoreset; finished episodes arrive in `info["episodes"]`. `.game` is their
    `GameSpec`. `env_kwargs` go to the environment, but for those of the sensors, which any game takes:
    `flicker`, the chance that a frame is blank; `drop`, that a number of a vector is missing (NaN); `noise`, its size;
    `salt`, the share of pixels that are black or white. Atari's games take `sound`, to be heard as well. Atari runs in
    ale-py's C++ vector environment on `threads` threads (0: one a core); with sound, in Python.
    """
    protocol = resolve_protocol(env_id, protocol) if isinstance(protocol, str) else protocol
    check_id(env_id)
    env_kwargs = env_kwargs or {}
    game = GameSpec(env_id, env_kwargs, protocol, family(env_id))
    if game.family == "atari" and _own_kwargs(env_id, env_kwargs).get(SOUND) not in TRUE:
        envs = _atari_vector(env_id, num_envs, protocol, threads)
    else:
        thunks = [lambda: make_env(env_id, protocol, env_kwargs, render_mode=None)] * num_envs
        with contextlib.redirect_stdout(io.StringIO()):  # MiniGrid prints its rejected layouts
            envs = gym.vector.SyncVectorEnv(thunks, autoreset_mode=gym.vector.AutoresetMode.NEXT_STEP)
    recorded = RecordEpisodes(envs, game)
    return _with_sensors(env_id, recorded, env_kwargs)


def _with_sensors(env_id: str, envs: RecordEpisodes, asked: dict[str, Any]) -> RecordEpisodes:
    """Have the sensors fail as the arguments say."""
    wrapped: Any = envs
    try:
        if asked.get(FLICKER):
            wrapped = Flicker(wrapped, asked[FLICKER], envs.game.frame_stack)
        if asked.get(NOISE) or asked.get(SALT):
            wrapped = NoisyObs(wrapped, asked.get(NOISE, 0.0), asked.get(SALT, 0.0))
        if asked.get(DROP):
            wrapped = DropSensor(wrapped, asked[DROP])
    except ValueError as error:
        raise EnvError(f"the sensors of {env_id} cannot fail so: {error}") from error
    return cast(RecordEpisodes, wrapped)


def make_env(
    env_id: str,
    protocol: str | Protocol = "auto",
    env_kwargs: dict[str, Any] | None = None,
    render_mode: str | None = "rgb_array",
) -> gym.Env:
    """Make one environment that observes what a row of `make_envs` does and renders at native size, in colour."""
    protocol = resolve_protocol(env_id, protocol) if isinstance(protocol, str) else protocol
    check_id(env_id)
    kind, own = family(env_id), _own_kwargs(env_id, env_kwargs or {})
    if kind == "atari":
        return AtariGame(env_id, protocol, render_mode, own.get(SOUND) in TRUE)
    try:
        rendering: dict[str, Any] = (
            {"render_mode": render_mode} if render_mode and kind != "toy" else {}
        )  # toys have no picture
        mission = {name: own.pop(name) for name in (STRICT, PAIRS) if kind == "minigrid" and name in own}
        env = gym.make(env_id, **rendering, **own)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        hint = "; pip install -c constraints.txt -e '.[games]'" if kind == "box2d" else ""
        raise EnvError(f"{env_id} cannot be made: {error}{hint}") from error
    except (TypeError, ValueError, AssertionError) as error:
        if not own:
            raise
        words = str(error).split(" was raised from")[0]
        raise EnvError(f"{env_id} does not take these arguments: {words}") from error
    if isinstance(env.action_space, gym.spaces.Box):
        env = bounded_actions(env)
    if kind == "minigrid":
        return GridPlanes(_with_missions(env, mission))
    if kind == "minatar":
        return ChannelsFirst(SeededMinAtar(env))
    space = env.observation_space
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.shape[2] < space.shape[0]:
        return ChannelsFirst(env)
    return env


def _with_missions(env: gym.Env, asked: dict[str, Any]) -> gym.Env:
    """Take missions strictly, or draw only some of them, as the arguments say."""
    try:
        if asked.get(STRICT) in TRUE:
            env = StrictMission(env)
        return MissionPairs(env, asked[PAIRS]) if PAIRS in asked else env
    except ValueError as error:
        raise EnvError(str(error)) from error


def _own_kwargs(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are the environment's own; raise EnvError where an Atari game is given any."""
    own = {name: value for name, value in env_kwargs.items() if name not in SENSORS}
    if set(own) - {SOUND} and family(env_id) == "atari":
        raise EnvError(
            f"{env_id} is made as its protocol says; --env-kwargs takes {SOUND}, {FLICKER}, {NOISE} and {SALT} for it, "
            f"not {', '.join(sorted(set(own) - {SOUND}))}"
        )
    return own


def _atari_vector(env_id: str, num_envs: int, protocol: Protocol, threads: int) -> gym.vector.VectorEnv:
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(
        rom_name(env_id),
        num_envs,
        num_threads=threads,
        autoreset_mode=gym.vector.AutoresetMode.NEXT_STEP,
        repeat_action_probability=protocol.repeat_action_probability,
        noop_max=protocol.noop_max,
        use_fire_reset=protocol.fire_reset,
        full_action_space=protocol.full_action_space,
        max_num_frames_per_episode=protocol.max_frames,
        frameskip=protocol.frame_skip,
        img_height=protocol.image_size,
        img_width=protocol.image_size,
        stack_num=protocol.frame_stack,
        grayscale=protocol.grayscale,
        # the two defaults that would falsify a score: rewards are clipped by the learner, if at all, and
        # episodic_life would restart the whole game at the first lost life
        reward_clipping=False,
        episodic_life=False,
        life_loss_info=False,
    )
