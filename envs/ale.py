"""One Atari game in a plain ALEInterface, bit for bit equal to a row of ale-py's C++ `AtariVectorEnv`.

The vector environment is fast but cannot render: no colour, no sound, no frames between two decisions. Its games can be
played again here, from their seed, start frame and actions, and be rendered. `step` and `reset` follow
`preprocessed_env.cpp` of ale-py 0.12, oddities included.

Known difference from Stable-Baselines3's wrappers: they take the maximum of two frames in colour, then the luminance;
ALE takes the luminance of each frame, then the maximum. The results differ only at pixels whose colour changes between
the two frames to one that is not brighter in all of red, green and blue (test_ale.py shows both).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py import Action, ALEInterface, roms
from gymnasium import spaces

from envs.protocols import Protocol

FRAMES_PER_SECOND = 60
SAMPLES_PER_FRAME = 512
"""Sound samples per emulator frame, uint8."""
SILENCE = 128
"""Value of a silent sample."""
FrameCallback = Callable[[np.ndarray, np.ndarray], None]
"""(rgb uint8 [height, width, 3], samples uint8 [512]) of one emulator frame."""

ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def rom_name(env_id: str) -> str:
    """Return ale-py's name of the game, "ALE/MsPacman-v5" -> "ms_pacman"; raise ValueError for other environments."""
    spec = gym.registry.get(env_id)
    if spec is None or "game" not in spec.kwargs or not str(spec.entry_point).startswith("ale_py"):
        raise ValueError(f"'{env_id}' is not an Atari game; the ids of Atari games look like ALE/Pong-v5")
    return spec.kwargs["game"]


class AtariGame(gym.Env):
    """An Atari game under a protocol: observations uint8 [stack, H, W] (or [stack, H, W, 3] in colour), raw rewards.

    With `render_mode="rgb_array"`, `on_frame(rgb, samples)` is called after every emulator frame of a step, 60 times
    per second of play: rgb uint8 [210 to 250, 160, 3], samples uint8 [512].

    With `sound`, observations are a Dict: `image`, and `sound`, the samples of all frames of the step, uint8
    [frame_skip * 512]; 128 (silence) at the start, and for frames after the end of the game.
    """

    def __init__(self, env_id: str, protocol: Protocol, render_mode: str | None = None, sound: bool = False):
        assert render_mode in (None, "rgb_array"), f"render_mode must be rgb_array or None, not {render_mode}"
        self.protocol, self.render_mode = protocol, render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND / protocol.frame_skip}
        self.on_frame: FrameCallback | None = None
        self._rom = str(roms.get_rom_path(rom_name(env_id)))
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", protocol.repeat_action_probability)
        self.ale.setBool("sound_obs", sound or render_mode is not None)  # only loadROM reads it
        self.ale.loadROM(self._rom)
        self.actions = self.ale.getLegalActionSet() if protocol.full_action_space else self.ale.getMinimalActionSet()
        self._fires = protocol.fire_reset and Action.FIRE in self.actions
        self._screen = self.ale.getScreenGrayscale if protocol.grayscale else self.ale.getScreenRGB
        self.action_space = spaces.Discrete(len(self.actions))
        size = protocol.image_size
        self._shape = (protocol.frame_stack, size, size) + (() if protocol.grayscale else (3,))
        image = spaces.Box(0, 255, self._shape, np.uint8)
        samples = spaces.Box(0, 255, (protocol.frame_skip * SAMPLES_PER_FRAME,), np.uint8)
        self._samples = np.full((protocol.frame_skip, SAMPLES_PER_FRAME), SILENCE, np.uint8) if sound else None
        self.observation_space: spaces.Space = spaces.Dict({"image": image, "sound": samples}) if sound else image
        self._loaded = False

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, such as "UPFIRE"."""
        return [action.name for action in self.actions]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start a game; a seed reloads the ROM.

        To start as a recorded game did, pass its seed and three integers as `options`: `ordinal`, the games since the
        seed; `noop_frames`, `episode_frame_number` after its reset; `start_frame`, `frame_number` minus that number.
        """
        super().reset(seed=seed)
        options = options or {}
        if seed is not None or not self._loaded:
            self._load(int(self.np_random.integers(2**31)) if seed is None else seed, options)
        self.ale.reset_game()
        noops = options.get("noop_frames")
        if noops is None:
            sample = int(self.np_random.integers(self.protocol.noop_max)) if self.protocol.noop_max else 0
            noops = self.ale.getEpisodeFrameNumber() + max(sample, self._fires)  # mode selection took frames already
        if "start_frame" in options:
            self._frames_before = options["start_frame"] + self.ale.getEpisodeFrameNumber() - self.ale.getFrameNumber()
        if self._fires:
            self.ale.act(Action.FIRE)
        while self.ale.getEpisodeFrameNumber() < noops and not self.ale.game_over():
            self.ale.act(Action.NOOP)
        self._elapsed = 0
        self._older, self._pooled = np.zeros_like(self._screen()), self._screen()
        self._stack = np.zeros(self._shape, np.uint8)
        if self._samples is not None:
            self._samples[:] = SILENCE
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeat `action` for the protocol's frame skip or until the game ends, and sum the rewards."""
        reward, over, limit = 0, False, self.protocol.max_frames
        if self._samples is not None:
            self._samples[:] = SILENCE
        for left in range(self.protocol.frame_skip, 0, -1):
            reward += self.ale.act(self.actions[action])
            if self._samples is not None:
                self._samples[self.protocol.frame_skip - left] = self.ale.getAudio()
            if self.on_frame is not None:
                self.on_frame(self.ale.getScreenRGB(), self.ale.getAudio())
            self._elapsed += 1
            over = self.ale.game_over()
            if over or (limit and self._elapsed >= limit):
                break
            # as in C++: if the game ends early, older frames stay, and so does the maximum of the last step
            if left == 2:
                self._older = self._screen()
            elif left == 1:
                self._pooled = self._screen()
        truncated = not over and bool(limit) and self._elapsed >= limit
        return self._observe(), float(reward), over, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Return the screen, uint8 [210 to 250, 160, 3]; None without a render mode."""
        return self.ale.getScreenRGB() if self.render_mode else None

    def _load(self, seed: int, start: dict[str, int]) -> None:
        """Load the ROM, and bring the emulator into its state before game `start["ordinal"]`.

        Two things carry over from one game to the next, and neither depends on the actions: the number of resets (a
        few games start from the memory that these leave), and the state of the random generator for sticky actions,
        which advances equally at every frame.
        """
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self._rom)
        self._loaded, self._frames_before = True, 0
        ordinal = start.get("ordinal", 0)
        if ordinal and self.protocol.repeat_action_probability:
            frames = start["start_frame"] - (ordinal + 1) * self.ale.getEpisodeFrameNumber()
            self._advance_rng(seed, ordinal, frames)
        else:
            self._reset(self.ale, ordinal)

    def _advance_rng(self, seed: int, ordinal: int, frames: int) -> None:
        """Reset `ordinal` times, and advance the generator for sticky actions by `frames` frames.

        It advances even after the end of a game, so an emulator with a short game does this quickly.
        """
        short = ALEInterface()
        short.setFloat("repeat_action_probability", self.protocol.repeat_action_probability)
        short.setInt("random_seed", seed)
        short.setInt("max_num_frames_per_episode", 1000)  # Double Dunk needs a hundred before its game starts
        short.loadROM(self._rom)
        self._reset(short, ordinal)
        for _ in range(frames):
            short.act(Action.NOOP)
        self.ale.restoreState(short.cloneState(include_rng=True))

    @staticmethod
    def _reset(ale: ALEInterface, times: int) -> None:
        for _ in range(times):
            ale.reset_game()

    def _observe(self) -> Any:
        """Return the observation; its newest frame is the maximum of the last two emulator frames."""
        import cv2  # only where Atari is played in Python: it takes a tenth of a second to load

        self._pooled = np.maximum(self._pooled, self._older)
        size = (self.protocol.image_size, self.protocol.image_size)
        self._stack[:-1] = self._stack[1:].copy()
        self._stack[-1] = cv2.resize(self._pooled, size, interpolation=cv2.INTER_AREA)
        return (
            self._stack.copy()
            if self._samples is None
            else {"image": self._stack.copy(), "sound": self._samples.flatten()}
        )

    def _info(self) -> dict[str, int]:
        return {
            "lives": self.ale.lives(),
            "frame_number": self.ale.getFrameNumber() + self._frames_before,
            "episode_frame_number": self.ale.getEpisodeFrameNumber(),
        }
