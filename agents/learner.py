"""Base of all agents: model, optimizer, gradient step, and their state for checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.optim import Optimizer

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.interface import Metrics, OptimizerState
from agents.replay.buffer import Replay
from agents.run.machine import MachineFacts
from agents.run.run import Run
from agents.settings import OptimizerName, OptimizerSettings
from networks.cores import build_core
from networks.encoders import reuse
from networks.fusion import LINEAR, fuse
from networks.model import ACTION_MASK, Model, Network, map_tree
from networks.tensors import to_tensor
from networks.torsos.base import Style, Torso
from networks.torsos.build import build_torso
from networks.torsos.normalize import Normalize

AnyNetwork = TypeVar("AnyNetwork", bound=Network)
OPTIMIZERS: dict[OptimizerName, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "radam": (torch.optim.RAdam, {"foreach": True}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.99, "foreach": True}),
}


class Learner(ABC):
    """Base of all agents: a model, its optimizer and the number of updates so far."""

    model: Network
    optimizer: Optimizer
    resumable: ClassVar[bool] = True
    """Whether training continues from a checkpoint."""

    def __init__(
        self, config: TrainConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: MachineFacts
    ):
        self.config, self.device = config, torch.device(machine.device)
        self.observation_space, self.action_space = observation_space, action_space
        self.bf16 = machine.bf16
        self.updates = 0
        self.encoders_trainable = True

    @property
    def num_actions(self) -> int:
        """Number of discrete actions; ConfigError where the action space is another or has an action mask."""
        space, masked = self.action_space, ACTION_MASK in getattr(self.observation_space, "spaces", {})
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ConfigError(
                f"{type(self).__name__} needs a Discrete action space that starts at 0; "
                f"{self.config.env or 'this environment'} has {space}"
            )
        if masked:
            raise ConfigError(
                f"{type(self).__name__} does not support --mask-actions; policy-gradient agents such as PPO do"
            )
        return int(space.n)

    @property
    def carry_dim(self) -> int:
        """Width of the carry of one environment; 0 for a feed-forward agent."""
        return self.model.carry_dim

    @abstractmethod
    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Choose actions; see `agents.interface.Agent.act`."""

    @abstractmethod
    def update(self, batch: Any, rng: torch.Generator) -> tuple[Metrics, Tensor | None]:
        """Learn from one batch; see `agents.interface.Agent.update`."""

    @abstractmethod
    def train(self, envs: gym.vector.VectorEnv, run: Run, replay: Replay | None) -> None:
        """Train until the run is over; `replay` is None for an agent that learns without one."""

    @classmethod
    def check_installed(cls) -> None:
        """Raise ConfigError with the pip line unless the packages that this agent needs are installed."""
        return

    def measure_speed(self, envs: gym.vector.VectorEnv) -> float | None:
        """Return env steps per second of a copy in training; None leaves the measurement to the pre-flight."""
        return None

    def build_torso(self, activation: type[nn.Module], **style: Any) -> Torso:
        """Build the config's torso, with its encoders and fusion; `style` has further fields of `Style`.

        Raise ConfigError where torso, encoders or fusion do not fit the observations.
        """
        try:
            torso_style = Style(**{"hidden": self.config.hidden, "activation": activation, **style})
            torso = build_torso(self.observation_space, self.config.torso_name, torso_style)
            reader_style = None if self.config.fusion in LINEAR else torso_style
            for key, (path, mode) in self.config.encoders().items():
                if mode != "freeze":
                    stored = reuse.load_for(key, Path(path), self.observation_space)
                    torso = reuse.put_into(torso, key, reuse.Pretrained(stored, reader_style))
                elif reader_style is None:  # a frozen encoder runs beside the environment; its features get no layer
                    part = reuse.check_key(key, self.observation_space)
                    torso = reuse.put_into(torso, key, reuse.read_features(part, reader_style))
            return fuse(torso, self.observation_space, self.config.fusion)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def assemble(self, torso: Torso, head: Callable[[int], nn.Module]) -> Model:
        """Return torso, the config's core, and `head(width)` over the core's output."""
        core = build_core(self.config.core, torso.out_dim, self.config.core_size)
        return Model(torso, core, head(core.out_dim), self.bf16)

    def place(self, model: AnyNetwork) -> AnyNetwork:
        """Move the model to the device, with channels last for convolutions, and set eval mode.

        Only updates use train mode: there spectral normalisation refines its estimates, which acting must not do.
        """
        return model.to(self.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def initial_carry(self, batch: int) -> Tensor:
        """Return the zero carry of `batch` environments, [batch, C]."""
        return self.model.initial_carry(batch)

    def tensor(self, array: np.ndarray) -> Tensor:
        """Return the array as a tensor on the learner's device."""
        return to_tensor(array, self.device)

    @torch.no_grad()
    def forward(
        self, obs: Any, first: np.ndarray, carry: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Any, Tensor]:
        """Run the model on one row without gradient: obs [N, ...], first [N], carry [N, C]; see `Network.forward`."""
        return self.model(map_tree(self.tensor, obs), carry, self.tensor(first), noise)

    def normalizers(self) -> list[Normalize]:
        """Return the input normalisations of every network, for `fit`, without those inside pretrained encoders."""
        networks = self.modules().values()
        pretrained = {id(part) for network in networks for each in reuse.pretrained(network) for part in each.modules()}
        parts = [part for network in networks for part in network.modules()]
        return [part for part in parts if isinstance(part, Normalize) and id(part) not in pretrained]

    def restore_encoders(self) -> None:
        """Load the weights of pretrained encoders again, after the agent's initialisation has overwritten them."""
        for network in self.modules().values():
            for each in reuse.pretrained(network):
                each.restore()

    def set_encoders_trainable(self, env_steps: int) -> None:
        """Unfreeze the pretrained encoders once `unfreeze_at` is reached: the agent's first gradients are noise."""
        trainable = env_steps >= self.config.unfreeze_at
        if trainable != self.encoders_trainable:
            self.encoders_trainable = trainable
            for each in reuse.pretrained(self.model):
                each.encoder.requires_grad_(trainable)

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the networks by name."""
        return {"model": self.model}

    def make_optimizer(self, settings: OptimizerSettings) -> Optimizer:
        """Return the optimizer of the model. Its rate is a tensor, which schedules change without a device sync."""
        self.learning_rate = torch.tensor(settings.learning_rate, dtype=torch.float32, device=self.device)
        kind, options = OPTIMIZERS[settings.optimizer]
        if settings.optimizer != "adam":
            # capturable keeps the step count on the GPU; reading it on the host would wait for all queued kernels
            options = {**options, "capturable": self.device.type == "cuda"}
        optimizer = kind(self._parameter_groups(), lr=self.learning_rate, eps=settings.optimizer_epsilon, **options)
        self._share_learning_rate(optimizer)
        return optimizer

    def _share_learning_rate(self, optimizer: Optimizer) -> None:
        """Make `self.learning_rate` itself the rate of each group; slower groups get a scaled copy."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate if group["factor"] == 1.0 else self.learning_rate * group["factor"]

    def _encoder_layers(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return the parameters of each layer of layerwise encoders, with the layer's factor on the learning rate."""
        config = self.config
        if "layerwise" not in (mode for _, mode in config.encoders().values()):
            return []
        layers = []
        for each in reuse.pretrained(self.model):
            groups = each.encoder.layer_groups()
            grouped = {id(parameter) for group in groups for parameter in group.parameters()}
            others = [parameter for parameter in each.encoder.parameters() if id(parameter) not in grouped]
            # from the features down to the input; parameters outside all layers get the lowest rate
            for depth, parameters in enumerate([*(list(group.parameters()) for group in groups[::-1]), others]):
                if parameters:
                    layers.append((parameters, config.encoder_lr_scale * config.encoder_lr_decay**depth))
        return layers

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: all at the full rate, then each layer of layerwise encoders."""
        layers = self._encoder_layers()
        slow = {id(parameter) for parameters, _ in layers for parameter in parameters}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in slow]
        return [{"params": parameters, "factor": factor} for parameters, factor in ((rest, 1.0), *layers)]

    def gradient_clip_groups(self) -> list[nn.Module]:
        """Return the parts of the model whose gradients are clipped separately."""
        return [self.model]

    def gradient_step(self, loss: Tensor, max_grad_norm: float) -> Tensor:
        """Take one optimizer step on the scalar `loss`; return the gradient norm (largest group) before clipping."""
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            if group["factor"] != 1.0:
                torch.mul(self.learning_rate, group["factor"], out=group["lr"])
        groups = self.gradient_clip_groups()
        grad_norms = [nn.utils.clip_grad_norm_(part.parameters(), max_grad_norm) for part in groups]
        self.optimizer.step()
        return torch.stack(grad_norms).amax()

    def optimizer_state(self) -> OptimizerState:
        """Return the optimizer's tensors by name, and the number of updates."""
        tensors = {
            f"{index}.{key}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        return {"tensors": {**tensors, "learning_rate": self.learning_rate}, "updates": self.updates}

    def load_optimizer_state(self, state: OptimizerState) -> None:
        """Restore the state that `optimizer_state` returned."""
        states: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in state["tensors"].items():
            if name != "learning_rate":
                index, key = name.split(".", 1)
                if value.dim():  # same strides as the parameter: fused kernels step through both together
                    value = torch.empty_like(parameters[int(index)]).copy_(value)
                states.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.learning_rate.copy_(state["tensors"]["learning_rate"])
        self._share_learning_rate(self.optimizer)  # load_state_dict copies the rate
        self.updates = int(state["updates"])


@torch.no_grad()
def update_target(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move the target network's weights towards the online network's by the fraction `tau`; 1 copies them.

    Buffers are copied. All in place: `load_state_dict` would compare all shapes at each call.
    """
    for weight, source in zip(target.parameters(), online.parameters(), strict=True):
        weight.copy_(source) if tau == 1.0 else weight.lerp_(source, tau)
    for buffer, current in zip(target.buffers(), online.buffers(), strict=True):
        buffer.copy_(current)
