"""Make environments: a vector to train and evaluate on, or a single one to render. Both play the same game."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import io
import os
import re
import tempfile
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

FAMILIES = {"ALE": "atari", "MinAtar": "minatar", "MiniGrid": "minigrid", "BabyAI": "minigrid", "joypad": "toy"}
"""Prefix of environment ids -> family; ids without one are classic or box2d."""
PACKAGES = {"MinAtar": "minatar", "MiniGrid": "minigrid", "BabyAI": "minigrid"}
"""Prefix of environment ids -> the package in the extra `games` that they need."""
FLICKER, DROP, NOISE, SALT = SENSORS = ("flicker", "drop", "noise", "salt")
"""`env_kwargs` of every game: sensor failures; see `make_envs`."""
SOUND = "sound"
"""`env_kwargs` of Atari games: observe the sound too."""
STRICT, PAIRS = "strict", "pairs"
"""`env_kwargs` of MiniGrid games: end the game at wrong objects, and restrict the missions; see missions.py."""
TRUE = (True, 1, "True", "true")
"""Values of `env_kwargs` that mean yes; the command line passes strings."""

if not os.environ.get("XDG_RUNTIME_DIR"):
    os.environ["XDG_RUNTIME_DIR"] = tempfile.gettempdir()  # else SDL, which pygame renders with, prints an error


def register_families(*prefixes: str) -> None:
    """Register the installed families of these id prefixes with Gymnasium; all families by default."""
    chosen = set(prefixes or FAMILIES)
    if "joypad" in chosen:
        toy.register()
    if "ALE" in chosen:
        importlib.import_module("ale_py")
    with contextlib.suppress(ImportError):
        if chosen & {"MiniGrid", "BabyAI"}:
            importlib.import_module("minigrid")
    with contextlib.suppress(ImportError):
        if "MinAtar" in chosen and "MinAtar/Breakout-v1" not in gym.registry:
            importlib.import_module("minatar.gym").register_envs()


def _prefix(env_id: str) -> str:
    return re.split("[/-]", env_id)[0]


def family(env_id: str) -> str:
    """Return the family that presets and protocols belong to: atari, minatar, minigrid, toy, box2d or classic."""
    if _prefix(env_id) in FAMILIES:
        return FAMILIES[_prefix(env_id)]
    register_families("ALE")
    entry_point = str(gym.registry[env_id].entry_point) if env_id in gym.registry else ""
    if entry_point.startswith("ale_py"):
        return "atari"  # an outdated id such as PongNoFrameskip-v4, which `check_id` refuses
    return "box2d" if "box2d" in entry_point else "classic"


def check_id(env_id: str) -> None:
    """Raise EnvError unless the environment exists; the message has the closest ids or the pip command it needs."""
    prefix = _prefix(env_id)
    register_families(prefix if prefix in FAMILIES else "ALE")  # importing MinAtar alone takes a second
    if env_id in gym.registry and (family(env_id) != "atari" or env_id.endswith("-v5")):
        return
    package = PACKAGES.get(prefix)
    if package and importlib.util.find_spec(package) is None:
        raise EnvError(f"{env_id} needs the package {package}: pip install -c constraints.txt -e '.[games]'")
    close = _closest_ids(env_id)
    raise EnvError(f"unknown environment '{env_id}'" + (f"; did you mean {', '.join(close)}?" if close else ""))


def _closest_ids(env_id: str) -> list[str]:
    """Return up to three ids, closest first; only one if it differs from `env_id` in case alone."""
    register_families()
    outdated = {name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("ale_py")}
    ids = {name.lower(): name for name in gym.registry if name not in outdated or name.endswith("-v5")}
    if env_id.lower() in ids:
        return [ids[env_id.lower()]]
    without_prefix: dict[str, str] = {}
    for name in sorted(ids.values(), key=lambda name: "/" in name):  # CartPole-v1 before phys2d/CartPole-v1
        without_prefix.setdefault(name.split("/")[-1].lower(), name)
    bare = re.sub(r"-ram|NoFrameskip|Deterministic", "", env_id.split("/")[-1]).lower()
    close = [without_prefix[bare]] if bare in without_prefix else []
    close += [ids[name] for name in difflib.get_close_matches(env_id.lower(), ids, 3, 0.5)]
    close += [without_prefix[name] for name in difflib.get_close_matches(bare, without_prefix, 3, 0.6)]
    return list(dict.fromkeys(close))[:3]


def resolve_protocol(env_id: str, name: str = "auto", image_size: int | None = None) -> Protocol:
    """Return the protocol called `name`, or the family's default for "auto", with another image size if given.

    Raises EnvError for an unknown environment or protocol, or a protocol or image size that does not fit the family.
    """
    check_id(env_id)
    atari = family(env_id) == "atari"
    if name == "auto":
        protocol = CLASSIC if atari else NATIVE
    elif name in PROTOCOLS:
        protocol = PROTOCOLS[name]
    else:
        raise EnvError(f"unknown protocol '{name}'; choose from {', '.join(PROTOCOLS)}")
    if atari != (protocol.frame_skip > 1):
        fitting = "classic or machado" if atari else "native"
        raise EnvError(f"the protocol {protocol.name} does not fit {env_id}; use {fitting}")
    if image_size is not None:
        if not atari:
            raise EnvError(f"only Atari games have an image size, not {env_id}")
        protocol = replace(protocol, image_size=image_size)
    return protocol


def make_envs(
    env_id: str,
    num_envs: int,
    protocol: str | Protocol = "auto",
    env_kwargs: dict[str, Any] | None = None,
    threads: int = 0,
) -> RecordEpisodes:
    """Make a vector of `num_envs` environments, for training and evaluation.

    Rewards are raw, episodes are full games, autoreset is NEXT_STEP; `info["episodes"]` has the episodes that ended,
    and `.game` is the `GameSpec`. Atari games run in ale-py's C++ vector environment on `threads` threads (0 for one
    per core), or in Python if they have sound.

    `env_kwargs` go to the environment's constructor, except sensor failures, which every game takes: `flicker`,
    probability of a blank frame; `drop`, probability that a number of a vector is missing (NaN); `noise`, standard
    deviation; `salt`, share of pixels set to black or white. MiniGrid games take `strict` and `pairs` (missions.py),
    Atari games `sound`. Raises EnvError for an unknown environment, protocol or argument.
    """
    protocol = resolve_protocol(env_id, protocol) if isinstance(protocol, str) else protocol
    check_id(env_id)
    env_kwargs = env_kwargs or {}
    game = GameSpec(env_id, env_kwargs, protocol, family(env_id))
    if game.family == "atari" and _constructor_kwargs(env_id, env_kwargs).get(SOUND) not in TRUE:
        envs = _atari_vector(env_id, num_envs, protocol, threads)
    else:
        thunks = [lambda: make_env(env_id, protocol, env_kwargs, render_mode=None)] * num_envs
        with contextlib.redirect_stdout(io.StringIO()):  # MiniGrid prints rejected layouts
            envs = gym.vector.SyncVectorEnv(thunks, autoreset_mode=gym.vector.AutoresetMode.NEXT_STEP)
    recorded = RecordEpisodes(envs, game)
    return _with_sensors(env_id, recorded, env_kwargs)


def _with_sensors(env_id: str, envs: RecordEpisodes, env_kwargs: dict[str, Any]) -> RecordEpisodes:
    """Add the wrappers for the sensor failures in `env_kwargs`."""
    wrapped: Any = envs
    try:
        if env_kwargs.get(FLICKER):
            wrapped = Flicker(wrapped, env_kwargs[FLICKER], envs.game.frame_stack)
        if env_kwargs.get(NOISE) or env_kwargs.get(SALT):
            wrapped = NoisyObs(wrapped, env_kwargs.get(NOISE, 0.0), env_kwargs.get(SALT, 0.0))
        if env_kwargs.get(DROP):
            wrapped = DropSensor(wrapped, env_kwargs[DROP])
    except ValueError as error:
        raise EnvError(f"invalid sensor failure of {env_id}: {error}") from error
    return cast(RecordEpisodes, wrapped)


def make_env(
    env_id: str,
    protocol: str | Protocol = "auto",
    env_kwargs: dict[str, Any] | None = None,
    render_mode: str | None = "rgb_array",
) -> gym.Env:
    """Make one environment with the observations of a row of `make_envs`, rendered in colour at native size.

    Arguments and errors as in `make_envs`; sensor failures are left out.
    """
    protocol = resolve_protocol(env_id, protocol) if isinstance(protocol, str) else protocol
    check_id(env_id)
    game_family, kwargs = family(env_id), _constructor_kwargs(env_id, env_kwargs or {})
    if game_family == "atari":
        return AtariGame(env_id, protocol, render_mode, kwargs.get(SOUND) in TRUE)
    try:
        can_render = game_family != "toy"
        rendering: dict[str, Any] = {"render_mode": render_mode} if render_mode and can_render else {}
        mission: dict[str, Any] = {}
        if game_family == "minigrid":
            mission = {name: kwargs.pop(name) for name in (STRICT, PAIRS) if name in kwargs}
        env = gym.make(env_id, **rendering, **kwargs)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        hint = "; pip install -c constraints.txt -e '.[games]'" if game_family == "box2d" else ""
        raise EnvError(f"{env_id} cannot be made: {error}{hint}") from error
    except Exception as error:  # an environment's constructor can raise anything for arguments that it does not take
        if not kwargs:
            raise
        given = ", ".join(f"{name} {value}" for name, value in kwargs.items())
        reason = " ".join(str(error).split(" was raised from")[0].split())
        raise EnvError(f"{env_id} does not take these arguments ({given}): {type(error).__name__}: {reason}") from error
    if isinstance(env.action_space, gym.spaces.Box):
        env = bounded_actions(env)
    if game_family == "minigrid":
        return GridPlanes(_with_missions(env, mission))
    if game_family == "minatar":
        return ChannelsFirst(SeededMinAtar(env))
    space = env.observation_space
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.shape[2] < space.shape[0]:
        return ChannelsFirst(env)
    return env


def _with_missions(env: gym.Env, env_kwargs: dict[str, Any]) -> gym.Env:
    """Add the wrappers for `strict` and `pairs` in `env_kwargs`."""
    try:
        if env_kwargs.get(STRICT) in TRUE:
            env = StrictMission(env)
        return MissionPairs(env, env_kwargs[PAIRS]) if PAIRS in env_kwargs else env
    except ValueError as error:
        raise EnvError(str(error)) from error


def _constructor_kwargs(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are not sensor failures; raise EnvError if an Atari game gets any but `sound`."""
    kwargs = {name: value for name, value in env_kwargs.items() if name not in SENSORS}
    if set(kwargs) - {SOUND} and family(env_id) == "atari":
        raise EnvError(
            f"the protocol sets up {env_id}; --env-kwargs takes {SOUND}, {FLICKER}, {NOISE} and {SALT} for it, "
            f"not {', '.join(sorted(set(kwargs) - {SOUND}))}"
        )
    return kwargs


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
        # both are on by default and falsify scores: the learner clips rewards, if at all, and episodic_life restarts
        # the whole game at the first lost life
        reward_clipping=False,
        episodic_life=False,
        life_loss_info=False,
    )
