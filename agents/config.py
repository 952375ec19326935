"""Settings that every agent has; each algorithm's page adds its own. Presets are values of these classes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from gymnasium import spaces

from agents.replay.buffer import ReplayLayout
from networks.cores import CoreName

ChannelName = Literal["text", "zh", "fr", "speech", "none"]
EncoderMode = Literal["freeze", "finetune", "layerwise"]


class ConfigError(ValueError):
    """A setting that cannot work, in one line that says what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings shared by all agents. `*_steps` count env steps (agent decisions, summed over environments)."""

    env: str = ""
    """Environment id, such as ALE/Pong-v5, MinAtar/Breakout-v1 or CartPole-v1."""
    protocol: str = "auto"
    """classic or machado for Atari, native elsewhere; auto takes classic for Atari."""
    image_size: int | None = None
    """Side, in pixels, of the frame an Atari agent sees; None leaves it to the protocol (84)."""
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    """What the environment is made with, in pairs: --env-kwargs horizon 8. Any game takes what its sensors
    do wrong: `flicker` (the chance that a frame is blank), `salt` (share of pixels that are black or white), `noise`
    (of a part of the range of pixels, or of so much on numbers), `drop` (the chance that a number is missing)."""
    repair: str = "zero"
    """What is put for missing numbers: zero, last, mean, median, knn or iterative; or the filter of noisy pixels:
    median, gaussian or wiener. For pixels, zero is no filter."""
    seed: int = 0
    """Everything random in the run follows from this number."""
    total_steps: int = 1_000_000
    """Env steps to train for."""
    num_envs: int = 8
    """Environments stepped side by side."""
    checkpoint_steps: int = 250_000
    """Env steps between checkpoints. Each cuts all running episodes: keep it well above num_envs x their length."""
    log_steps: int = 5_000
    """Env steps between lines of learning and timing metrics."""
    eval_episodes: int = 0
    """Episodes of evaluation at each checkpoint; 0 judges `best` by the training games."""
    stop_return: float | None = None
    """Stop once the mean return of the last `stop_episodes` full games reaches this."""
    stop_episodes: int = 30
    """Full games that `stop_return` looks at."""
    gamma: float = 0.99
    """Discount per env step."""
    clip_rewards: bool = False
    """Learn from the sign of the reward. Reported returns are the game's own."""
    life_loss_ends: bool = False
    """Learn as if the loss of a life ended the episode, where the protocol allows it. Games are played to their end."""
    observe_last: bool = False
    """Show the agent its last action and reward beside each observation, as R2D2 does."""
    mask_actions: bool = False
    """Leave out actions that the game says are illegal now, where it says so (`info["action_mask"]`, as in Taxi)."""
    torso: str = "auto"
    """auto, or a name of networks/torsos/build.py: mlp, nature, impala, impala-large, minatar, tokens ..."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers of an mlp torso."""
    input_norm: Literal["scale", "center", "running"] = "scale"
    """scale divides pixels by 255; center takes mean and std of each pixel from random play; running from all play."""
    mission_channel: ChannelName = "text"
    """How missions are given: as the game's English, in Chinese or French, spoken; or not, which is the control."""
    interpreter: str = ""
    """Folder of a translation or speech-to-text task, which makes English of what the channel gives."""
    teacher: str = ""
    """Folder of a `feedback` task, which reads what a teacher (BabyAI's bot) says of each step of training: the chance
    of praise less that of blame is added to the reward. Judged and recorded games have their own rewards."""
    teacher_scale: float = 0.02
    """What praise is worth."""
    fusion: Literal["concat", "film", "kernels", "attention"] = "concat"
    """How the parts of a Dict observation come together: concat, side by side; film, the image scaled and shifted by
    all else, which a mission needs to change what is made of what is seen; kernels, all else says what to look for in
    each place, and only the answers go on; attention, all else asks where to look."""
    encoder: tuple[str, ...] = ()
    """Trained encoders, each KEY=RUN: what reads this part of the observation (obs where it is one array)."""
    encoder_mode: tuple[str, ...] = ()
    """KEY=freeze (features as they are, computed once beside the game), finetune (at the agent's learning rate) or
    layerwise (at lower ones towards the input); freeze unless it is said."""
    encoder_lr_scale: float = 0.1
    """layerwise: learning rate of an encoder's last layer, as a part of the agent's."""
    encoder_lr_decay: float = 0.5
    """layerwise: factor from a layer to the one before it."""
    unfreeze_at: int = 0
    """finetune and layerwise: env steps until which the encoders stay as they are."""
    core: CoreName = "none"
    """Memory: none, gru or lstm."""
    core_size: int = 256
    """Width of the memory."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bfloat16 for convolutions and memory; auto uses it where the processor is built for it."""
    threads: int = 0
    """Threads of the learner; 0 takes 1 for small networks and every core for convolutions."""
    device: str = "auto"
    """cpu, cuda or auto."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        for name in ("total_steps", "num_envs", "checkpoint_steps", "log_steps", "core_size", "stop_episodes"):
            self.require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("eval_episodes", "threads", "seed", "unfreeze_at"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require(self.seed < 2_000_000_000, "seed", "must be below 2000000000, for emulators take 31 bits")
        self.require(all(width >= 1 for width in self.hidden), "hidden", "must be widths of at least 1")
        self.require(0.0 <= self.gamma <= 1.0, "gamma", "must lie in 0 to 1")
        self.require(self.image_size is None or 20 <= self.image_size <= 256, "image_size", "must lie in 20 to 256")
        self.require(self.teacher_scale > 0.0, "teacher_scale", "must be above 0")
        self.require(0.0 < self.encoder_lr_scale <= 1.0, "encoder_lr_scale", "must lie in 0 to 1")
        self.require(0.0 < self.encoder_lr_decay <= 1.0, "encoder_lr_decay", "must lie in 0 to 1")
        self.encoders()

    def encoders(self) -> dict[str, tuple[str, EncoderMode]]:
        """Return the folder and the mode of each part of the observation that has an encoder."""
        modes: dict[str, Any] = {}
        for word in self.encoder_mode:
            key, _, mode = word.partition("=")
            if mode not in get_args(EncoderMode):
                raise ConfigError(f"--encoder-mode takes KEY={'|'.join(get_args(EncoderMode))}, not {word}")
            modes[key] = mode
        found: dict[str, tuple[str, EncoderMode]] = {}
        for word in self.encoder:
            key, _, path = word.partition("=")
            if not key or not path:
                raise ConfigError(f"--encoder takes KEY=RUN, not {word}")
            found[key] = path, modes.get(key, "freeze")
        strange = sorted(set(modes) - set(found))
        if strange:
            raise ConfigError(f"--encoder-mode is given for {', '.join(strange)}, which has no --encoder")
        return found

    @property
    def torso_name(self) -> str:
        """What reads the observation: auto where that is the features of a frozen encoder, whatever read the frames."""
        frozen = self.encoders().get("obs", ("", ""))[1] == "freeze"
        return "auto" if frozen else self.torso

    def layout(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> ReplayLayout | None:
        """Return the replay that these settings need; None for an agent that learns from what it has just played."""
        return None

    def replay_bytes(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> int:
        """Return the size of the replay; raise ConfigError where it cannot be had."""
        layout = self.layout(observation_space, frame_stack, carry_dim)
        return layout.nbytes if layout is not None else 0

    @property
    def bounds_reward_scale(self) -> bool:
        """Whether large rewards are brought to a size that can be learned from."""
        return self.clip_rewards

    @property
    def rows_in_memory(self) -> int:
        """Rows that are kept at once outside a replay."""
        return 1

    def tiny(self) -> dict[str, Any]:
        """Return what brings these settings to a size that trains, saves and acts within seconds."""
        return {"total_steps": 400, "num_envs": 2, "checkpoint_steps": 200, "log_steps": 100, "threads": 1}

    def updates_line(self) -> str:
        """Say how many updates of what size will be made, for the pre-flight."""
        return ""

    def schedule_line(self) -> str:
        """Say what changes on the way, for the pre-flight."""
        return ""

    def warnings(self) -> list[str]:
        """Return one line for each of these settings that would waste the run."""
        return []

    def require(self, condition: bool, name: str, message: str) -> None:
        """Raise ConfigError about the field `name` unless `condition` holds."""
        if not condition:
            raise ConfigError(f"--{name.replace('_', '-')} {message}, not {getattr(self, name)}")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """Rebuild a config from what `dataclasses.asdict` and JSON made of it."""
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"config.json has fields that this version does not know: {', '.join(unknown)}")
        converted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**converted)
