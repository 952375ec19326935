"""Settings in groups: a function takes the group that it needs, `TrainConfig` inherits them all.

The command line shows each group under its own heading. A run's config.json holds the fields side by side, whatever
their group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from agents.errors import ConfigError
from networks.core_names import CoreName

ChannelName = Literal["text", "zh", "fr", "speech", "none"]
EncoderMode = Literal["freeze", "finetune", "layerwise"]
OptimizerName = Literal["adam", "radam", "rmsprop"]


@dataclass(frozen=True)
class Settings:
    """Base of all groups: checks of values."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value; every group checks its own fields."""

    def require(self, condition: bool, name: str, message: str) -> None:
        """Raise ConfigError about the field `name` unless `condition` holds; a message with "must" adds its value."""
        if not condition:
            value = f", not {getattr(self, name)}" if message.startswith("must") else ""
            raise ConfigError(f"--{name.replace('_', '-')} {message}{value}")


@dataclass(frozen=True)
class EnvironmentSettings(Settings):
    """Game, protocol, and the form in which observations and missions reach the agent."""

    env: str = ""
    """Environment id, such as ALE/Pong-v5, MinAtar/Breakout-v1 or CartPole-v1."""
    protocol: str = "auto"
    """classic or machado for Atari, native elsewhere; auto takes classic for Atari."""
    image_size: int | None = None
    """Side, in pixels, of the frame an Atari agent sees; None leaves it to the protocol (84)."""
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Arguments of the environment, in pairs: --env-kwargs horizon 8. Every game also takes sensor faults: `flicker`
    (probability of a blank frame), `salt` (share of black or white pixels), `noise` (standard deviation: a share of
    the range of pixels, absolute for numbers), `drop` (probability that a number is missing)."""
    repair: str = "zero"
    """Fills missing numbers: zero, last, mean, median, knn or iterative; or filters noisy pixels: median, gaussian or
    wiener. For pixels, zero is no filter."""
    num_envs: int = 8
    """Environments stepped side by side."""
    observe_last: bool = False
    """Show the agent its last action and reward beside each observation, as R2D2 does."""
    mask_actions: bool = False
    """Leave out actions that the game reports as illegal (`info["action_mask"]`, as in Taxi)."""
    mission_channel: ChannelName = "text"
    """Form of missions: text (the game's English), zh or fr (translated), speech, or none (a control)."""
    interpreter: str = ""
    """Folder of a translation or speech-to-text task that turns the channel's missions into English."""
    teacher: str = ""
    """Folder of a `feedback` task that classifies comments of a teacher (BabyAI's bot) on each training step:
    P(praise) - P(blame) is added to the reward. Evaluation and videos use the game's reward."""
    teacher_scale: float = 0.02
    """Reward of certain praise."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        self.require(self.num_envs >= 1, "num_envs", "must be at least 1")
        self.require(self.image_size is None or 20 <= self.image_size <= 256, "image_size", "must lie in 20 to 256")
        self.require(self.teacher_scale > 0.0, "teacher_scale", "must be above 0")
        super().validate()


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Torso, fusion of the parts of an observation, and memory."""

    torso: str = "auto"
    """auto, or a name in networks/torsos/build.py: mlp, nature, impala, impala-large, minatar, tokens ..."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers of an mlp torso."""
    input_norm: Literal["scale", "center", "running"] = "scale"
    """scale divides pixels by 255; center standardises each pixel by statistics of random play; running by statistics
    of all play."""
    fusion: Literal["concat", "film", "kernels", "attention"] = "concat"
    """Fusion of the parts of a Dict observation: concat; film (the other parts scale and shift the image's channels);
    kernels (the other parts compute 1x1 convolutions over the image); attention (the other parts attend over it)."""
    core: CoreName = "none"
    """Memory: none, gru or lstm."""
    core_size: int = 256
    """Width of the memory."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        self.require(all(width >= 1 for width in self.hidden), "hidden", "must be widths of at least 1")
        self.require(self.core_size >= 1, "core_size", "must be at least 1")
        super().validate()


@dataclass(frozen=True)
class EncoderSettings(Settings):
    """Pretrained feature encoders."""

    encoder: tuple[str, ...] = ()
    """Pretrained encoders as KEY=RUN: RUN's encoder reads this part of the observation (obs for a single array)."""
    encoder_mode: tuple[str, ...] = ()
    """KEY=freeze (features computed once, beside the environment), finetune (at the agent's learning rate) or layerwise
    (lower rates towards the input); default: freeze."""
    encoder_lr_scale: float = 0.1
    """layerwise: learning rate of an encoder's last layer, as a fraction of the agent's."""
    encoder_lr_decay: float = 0.5
    """layerwise: factor from a layer to the one before it."""
    unfreeze_at: int = 0
    """finetune and layerwise: env steps until which the encoders stay frozen."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        self.require(self.unfreeze_at >= 0, "unfreeze_at", "must not be negative")
        self.require(0.0 < self.encoder_lr_scale <= 1.0, "encoder_lr_scale", "must lie in 0 to 1")
        self.require(0.0 < self.encoder_lr_decay <= 1.0, "encoder_lr_decay", "must lie in 0 to 1")
        self.encoders()
        super().validate()

    def encoders(self) -> dict[str, tuple[str, EncoderMode]]:
        """Return the folder and the mode of each part of the observation that has an encoder."""
        modes: dict[str, Any] = {}
        for word in self.encoder_mode:
            key, _, mode = word.partition("=")
            if mode not in get_args(EncoderMode):
                raise ConfigError(f"--encoder-mode takes KEY={'|'.join(get_args(EncoderMode))}, not {word}")
            modes[key] = mode
        encoders: dict[str, tuple[str, EncoderMode]] = {}
        for word in self.encoder:
            key, _, path = word.partition("=")
            if not key or not path:
                raise ConfigError(f"--encoder takes KEY=RUN, not {word}")
            encoders[key] = path, modes.get(key, "freeze")
        unused = sorted(set(modes) - set(encoders))
        if unused:
            raise ConfigError(f"--encoder-mode is given for {', '.join(unused)}, which has no --encoder")
        return encoders


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """Optimizer and its gradients."""

    learning_rate: float = 1e-4
    """Step size of the optimizer."""
    optimizer: OptimizerName = "adam"
    """adam, radam (rectified) or rmsprop."""
    optimizer_epsilon: float = 1e-8
    """Added to the denominator of each step, for numerical stability."""
    max_grad_norm: float = 10.0
    """Gradients of a larger norm are scaled down to it."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        for name in ("learning_rate", "optimizer_epsilon", "max_grad_norm"):
            self.require(getattr(self, name) > 0, name, "must be above 0")
        super().validate()


@dataclass(frozen=True)
class RunSettings(Settings):
    """Seed, budget, checkpoints, evaluation, and the machine. `*_steps` are env steps, summed over environments."""

    seed: int = 0
    """Seed of everything random in the run."""
    total_steps: int = 1_000_000
    """Env steps to train for."""
    checkpoint_steps: int = 250_000
    """Env steps between checkpoints. Each truncates all running episodes: keep it far above num_envs x their length."""
    log_steps: int = 5_000
    """Env steps between lines of learning and timing metrics."""
    eval_episodes: int = 0
    """Evaluation episodes at each checkpoint; 0 picks `best` by the training games."""
    stop_return: float | None = None
    """Stop once the mean return of the last `stop_episodes` full games reaches this."""
    stop_episodes: int = 30
    """Full games that `stop_return` averages over."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of convolutions and memory; auto takes bf16 where the processor supports it natively."""
    threads: int = 0
    """Threads of the learner; 0 takes 1 for small networks and every core for convolutions."""
    device: str = "auto"
    """cpu, cuda or auto."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        for name in ("total_steps", "checkpoint_steps", "log_steps", "stop_episodes"):
            self.require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("eval_episodes", "threads", "seed"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require(self.seed < 2_000_000_000, "seed", "must be below 2000000000, since emulators take 31 bits")
        super().validate()
