"""Adapters between Stable-Baselines3 and joypad: vector environment, feature extractors, builder and callback.

The only file that imports Stable-Baselines3 at the top; `agent.py` imports it when an agent is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.errors import ConfigError
from agents.interface import Agent, EpisodeRecord
from agents.loops import learning_signal
from agents.run.run import Run, Segment
from agents.sb3.config import SB3A2CConfig, SB3Config, SB3DQNConfig, SB3PPOConfig, SB3QRDQNConfig, SB3RecurrentPPOConfig
from networks.model import map_tree
from networks.observation_spaces import is_image, parts_of
from networks.torsos.base import Style
from networks.torsos.build import build_torso

CLASSES: dict[type[SB3Config], type[BaseAlgorithm]] = {
    SB3A2CConfig: A2C,
    SB3PPOConfig: PPO,
    SB3RecurrentPPOConfig: RecurrentPPO,
    SB3DQNConfig: DQN,
    SB3QRDQNConfig: QRDQN,
}
NAMES = {
    "train/policy_gradient_loss": "train/policy_loss",
    "train/policy_loss": "train/policy_loss",
    "train/value_loss": "train/value_loss",
    "train/approx_kl": "train/approx_kl",
    "train/clip_fraction": "train/clip_fraction",
    "train/explained_variance": "train/explained_variance",
    "train/learning_rate": "train/learning_rate",
    "train/loss": "train/loss",
    "rollout/exploration_rate": "train/epsilon",
}
"""SB3's names of metrics -> ours. Its entropy_loss, the negative entropy, is converted in `Progress`."""
SMALLEST_IMAGE = 36
"""Height and width, in pixels, of the smallest image that fits the Nature CNN."""


def _ignore(*_: Any) -> None:
    """Do nothing."""


class Vector(VecEnv):
    """Our vector environment with SB3's interface; rewards are clipped and lost lives end episodes as configured.

    SB3 expects same-step autoreset, with the last observation in the info. `count(env_steps, episodes)` receives the
    steps and the recorded games, whose scores are the game's own; `record_time(name)` charges the elapsed time.
    """

    def __init__(
        self,
        envs: Any,
        config: SB3Config,
        seeds: Sequence[int],
        count: Callable[[int, Iterable[EpisodeRecord]], None] = _ignore,
        record_time: Callable[[str], None] = _ignore,
    ):
        self.envs, self.config, self.seeds, self.count, self.record_time = envs, config, list(seeds), count, record_time
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> Any:
        """Start all environments from their seeds."""
        obs, self.info = self.envs.reset(seed=self.seeds)
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step, reset the environments whose game has ended, and return obs, reward, done and infos."""
        self.record_time("act")
        obs, reward, terminated, truncated, info = self.envs.step(self.actions)
        self.record_time("env")
        self.count(self.num_envs, info.get("episodes", ()))
        over = terminated | truncated
        clip, lives = self.config.clip_rewards, self.config.life_loss_ends
        reward, ended = learning_signal(reward, terminated, self.info, info, clip, lives)
        done = ended | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for env in np.flatnonzero(done):
            last = map_tree(lambda part, env=env: part[env].copy(), obs)
            limited = bool(truncated[env] and not terminated[env])
            infos[env] = {"terminal_observation": last, "TimeLimit.truncated": limited}
        if over.any():
            obs, info = self.envs.restart(over)
        self.info = info
        self.record_time("log")
        return obs, reward, done, infos

    def close(self) -> None:
        """Keep the environments open; their owner closes them."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return `render_mode` None, which SB3 reads at the start; raise AttributeError for any other."""
        if attr_name == "render_mode":
            return [None] * self.num_envs
        raise AttributeError(attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Raise NotImplementedError: the environments of a protocol are fixed."""
        raise NotImplementedError(attr_name)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Raise NotImplementedError: the environments of a protocol are only stepped and reset."""
        raise NotImplementedError(method_name)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """Return False for every environment: none has a wrapper of SB3's."""
        return [False] * self.num_envs


class Spaces(VecEnv):
    """Spaces and number of environments, to build an agent without environments."""

    def __init__(self, num_envs: int, observation_space: spaces.Space, action_space: spaces.Space):
        super().__init__(num_envs, observation_space, action_space)

    reset = step_async = step_wait = close = set_attr = env_method = _ignore  # type: ignore[assignment]
    get_attr = Vector.get_attr
    env_is_wrapped = Vector.env_is_wrapped


class TorsoFeatures(BaseFeaturesExtractor):
    """One of our torsos as a features extractor of SB3: unscaled observations -> features [B, features_dim]."""

    def __init__(self, observation_space: spaces.Space, torso: str, style: Style):
        built = build_torso(observation_space, torso, style)
        super().__init__(observation_space, int(built.out_dim))
        self.torso = built

    def forward(self, observations: Any) -> Tensor:
        """Return features [B, features_dim] of observations [B, ...], float32."""
        return self.torso(observations)


class DictFeatures(CombinedExtractor):
    """SB3's extractor for Dict observations, with a plain int for its width: an LSTM refuses NumPy's int64."""

    def __init__(self, observation_space: spaces.Dict, **options: Any):
        super().__init__(observation_space, **options)
        self._features_dim = int(self._features_dim)


def build(config: SB3Config, env: VecEnv, device: torch.device, **changes: Any) -> BaseAlgorithm:
    """Build SB3's agent, with `changes` to the arguments of its class; raise ConfigError for unsupported spaces."""
    kind = CLASSES[type(config)]
    arguments: dict[str, Any] = {**config.hyperparameters(), "learning_rate": config.learning_rate}
    if config.schedule == "linear":
        for name in {"learning_rate", "clip_range"} & arguments.keys():
            arguments[name] = LinearSchedule(arguments[name], 0.0, 1.0)
    policy, policy_arguments = _policy(config, env.observation_space)
    if isinstance(config, SB3RecurrentPPOConfig):
        policy = policy.replace("Policy", "LstmPolicy")
    arguments |= {"policy_kwargs": policy_arguments, "seed": config.seed, "device": device, **changes}
    try:
        model = kind(policy, env, **arguments)
    except (AssertionError, ValueError) as error:  # raised by SB3 for spaces that it does not support
        raise ConfigError(f"Stable-Baselines3's {kind.__name__} cannot play this: {error}") from error
    model.set_logger(Logger(None, []))
    return model


def _policy(config: SB3Config, space: spaces.Space) -> tuple[str, dict[str, Any]]:
    """Return the name of SB3's policy, and its keyword arguments."""
    arguments = config.policy_arguments()
    if arguments.pop("rms_prop_tf_like", False):
        arguments |= {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": config.rms_prop_eps}}  # type: ignore
    if config.net_arch is not None:
        arguments["net_arch"] = list(config.net_arch)
    if config.torso == "sb3":
        if isinstance(space, spaces.Dict):
            return "MultiInputPolicy", {**arguments, "features_extractor_class": DictFeatures}
        large = is_image(space) and min(space.shape[1:]) >= SMALLEST_IMAGE
        return ("CnnPolicy" if large else "MlpPolicy"), arguments
    if not all(isinstance(part, spaces.Box) for part in parts_of(space)):
        raise ConfigError(f"--torso {config.torso} reads arrays only under Stable-Baselines3, not {space}; use sb3")
    torso = {"torso": config.torso, "style": config.style}
    arguments |= {"features_extractor_class": TorsoFeatures, "features_extractor_kwargs": torso}
    arguments.setdefault("net_arch", [])
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    return policy, arguments | {"normalize_images": False}


class Progress(BaseCallback):
    """Reports SB3's updates to a `Run`, saves checkpoints between rollouts, and stops the training when it is over."""

    def __init__(self, run: Run, segment: Segment, agent: Agent):
        super().__init__()
        self.run, self.segment, self.agent, self.updates = run, segment, agent, 0
        self.due = segment.until

    def _on_training_start(self) -> None:
        self.hook = self.model.policy.optimizer.register_step_post_hook(self._updated)  # type: ignore[union-attr]

    def _updated(self, *_: Any) -> None:
        self.updates += 1

    def _on_step(self) -> bool:
        return not (self.run.solved or self.run.signalled)

    def _on_rollout_start(self) -> None:
        """Report the updates since the last rollout, and save a checkpoint if one is due."""
        self.run.clock.record_time("learn")
        self._report()
        self.run.log_if_due()
        if self.run.env_steps >= self.due:
            self.due += self.run.config.checkpoint_steps
            self.run.checkpoint(self.agent, self.segment)  # SB3 collects in eval mode

    def _on_rollout_end(self) -> None:
        self.run.clock.record_time("act")

    def _on_training_end(self) -> None:
        self.run.clock.record_time("learn")
        self._report()
        self.hook.remove()

    def _report(self) -> None:
        if not self.updates:
            return
        logged = self.model.logger.name_to_value
        values = {ours: logged[theirs] for theirs, ours in NAMES.items() if theirs in logged}
        if "train/entropy_loss" in logged:
            values["train/entropy"] = -logged["train/entropy_loss"]
        if "train/loss" not in values:  # A2C logs the parts of its loss only
            config: Any = self.run.config
            values["train/loss"] = (
                values["train/policy_loss"]
                + config.vf_coef * values["train/value_loss"]
                - config.ent_coef * values["train/entropy"]
            )
        # a metric that is undefined, such as the explained variance of equal returns, is no failure of the training
        defined = {name: float(value) for name, value in values.items() if name == "train/loss" or np.isfinite(value)}
        self.run.learned({name: torch.tensor(value) for name, value in defined.items()}, self.updates)
        self.updates = 0
