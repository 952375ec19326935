"""One Atari game in a plain ALEInterface, bit for bit what a row of ale-py's C++ `AtariVectorEnv` shows and pays.

The vector environment is the fast one, and blind: no colour, no sound, no frames between two decisions. A game that
was played there can be played again here from its seed, where it began, and its actions, and be looked at.
`preprocessed_env.cpp` of ale-py 0.12 is the definition that `step` and `reset` follow, oddities included.

Known difference from Stable-Baselines3's wrappers: they take the maximum of two frames in colour, then the luminance;
ALE takes the luminance of each, then the maximum. The two differ only at pixels whose colour changed between the two
frames into one that is not brighter in each of red, green and blue (test_ale.py shows both).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ale_py
import cv2
import gymnasium as gym
import numpy as np
from ale_py import Action, ALEInterface, roms
from gymnasium import spaces

from envs.protocols import Protocol

FRAMES_PER_SECOND = 60
SAMPLES_PER_FRAME = 512
"""Of sound; a sample is one unsigned byte, and 128 is silence."""
SILENCE = 128
FrameCallback = Callable[[np.ndarray, np.ndarray], None]

ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def rom_name(env_id: str) -> str:
    """Return the snake_case name that ale-py gives the game: "ALE/MsPacman-v5" -> "ms_pacman"."""
    spec = gym.registry.get(env_id)
    if spec is None or "game" not in spec.kwargs or not str(spec.entry_point).startswith("ale_py"):
        raise ValueError(f"'{env_id}' is not an Atari game; their names look like ALE/Pong-v5")
    return spec.kwargs["game"]


class AtariGame(gym.Env):
    """Observe uint8 [stack, H, W] (or [stack, H, W, 3]), act on the protocol's actions, earn the game's own points.

    With `render_mode="rgb_array"` there is sound as well, and `on_frame(rgb, samples)` is called after every emulator
    frame of a step: rgb uint8 [210 to 250, 160, 3], samples uint8 [512], 60 times a second of play.

    With `sound` it observes a Dict: what else is all there is as `image`, and as `sound` what was heard during the
    step, of every frame, uint8 [frame skip x 512]; silence (128) at the start and for frames that a game's end cuts.
    """

    def __init__(self, env_id: str, protocol: Protocol, render_mode: str | None = None, sound: bool = False):
        assert render_mode in (None, "rgb_array"), f"render_mode is rgb_array or None, not {render_mode}"
        self.protocol, self.render_mode = protocol, render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND / protocol.frame_skip}
        self.on_frame: FrameCallback | None = None
        self._rom = str(roms.get_rom_path(rom_name(env_id)))
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", protocol.repeat_action_probability)
        self.ale.setBool("sound_obs", sound or render_mode is not None)  # read by loadROM, and by nothing after it
        self.ale.loadROM(self._rom)
        self.actions = self.ale.getLegalActionSet() if protocol.full_action_space else self.ale.getMinimalActionSet()
        self._fires = protocol.fire_reset and Action.FIRE in self.actions
        self._screen = self.ale.getScreenGrayscale if protocol.grayscale else self.ale.getScreenRGB
        self.action_space = spaces.Discrete(len(self.actions))
        size = protocol.image_size
        self._shape = (protocol.frame_stack, size, size) + (() if protocol.grayscale else (3,))
        seen = spaces.Box(0, 255, self._shape, np.uint8)
        heard = spaces.Box(0, 255, (protocol.frame_skip * SAMPLES_PER_FRAME,), np.uint8)
        self._heard = np.full((protocol.frame_skip, SAMPLES_PER_FRAME), SILENCE, np.uint8) if sound else None
        self.observation_space: spaces.Space = spaces.Dict({"image": seen, "sound": heard}) if sound else seen
        self._loaded = False

    def get_action_meanings(self) -> list[str]:
        """Return the name of each action, such as "UPFIRE"."""
        return [action.name for action in self.actions]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start a game; a seed reloads the cartridge.

        To repeat the start of a recorded game give its seed and, as `options`, the integers `ordinal` (games since the
        seed), `start_frame` (frame_number - episode_frame_number after its reset) and `noop_frames` (the latter).
        """
        super().reset(seed=seed)
        options = options or {}
        if seed is not None or not self._loaded:
            self._load(int(self.np_random.integers(2**31)) if seed is None else seed, options)
        self.ale.reset_game()
        noops = options.get("noop_frames")
        if noops is None:
            drawn = int(self.np_random.integers(self.protocol.noop_max)) if self.protocol.noop_max else 0
            noops = self.ale.getEpisodeFrameNumber() + max(drawn, self._fires)  # selecting a mode takes frames as well
        if "start_frame" in options:
            self._frames_before = options["start_frame"] + self.ale.getEpisodeFrameNumber() - self.ale.getFrameNumber()
        if self._fires:
            self.ale.act(Action.FIRE)
        while self.ale.getEpisodeFrameNumber() < noops and not self.ale.game_over():
            self.ale.act(Action.NOOP)
        self._elapsed = 0
        self._older, self._pooled = np.zeros_like(self._screen()), self._screen()
        self._stack = np.zeros(self._shape, np.uint8)
        if self._heard is not None:
            self._heard[:] = SILENCE
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold `action` for the protocol's frames, or until the game ends; points are summed."""
        reward, over, limit = 0, False, self.protocol.max_frames
        if self._heard is not None:
            self._heard[:] = SILENCE
        for left in range(self.protocol.frame_skip, 0, -1):
            reward += self.ale.act(self.actions[action])
            if self._heard is not None:
                self._heard[self.protocol.frame_skip - left] = self.ale.getAudio()
            if self.on_frame is not None:
                self.on_frame(self.ale.getScreenRGB(), self.ale.getAudio())
            self._elapsed += 1
            over = self.ale.game_over()
            if over or (limit and self._elapsed >= limit):
                break
            # as in C++: a game that ends early keeps what was seen before it, also the maximum made at the last step
            if left == 2:
                self._older = self._screen()
            elif left == 1:
                self._pooled = self._screen()
        truncated = not over and bool(limit) and self._elapsed >= limit
        return self._observe(), float(reward), over, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Return the picture that a television shows, uint8 [210 to 250, 160, 3]."""
        return self.ale.getScreenRGB() if self.render_mode else None

    def _load(self, seed: int, start: dict[str, int]) -> None:
        """Insert the cartridge, and bring the machine to where it stands before game `start["ordinal"]`.

        Two things pass from one game to the next, and neither depends on what was played: how often the machine was
        reset (a few games start from what that leaves in memory), and the state of the generator behind sticky
        actions, which advances by the same amount at every frame.
        """
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self._rom)
        self._loaded, self._frames_before = True, 0
        ordinal = start.get("ordinal", 0)
        if ordinal and self.protocol.repeat_action_probability:
            frames = start["start_frame"] - (ordinal + 1) * self.ale.getEpisodeFrameNumber()
            self._roll_dice(seed, ordinal, frames)
        else:
            self._reset(self.ale, ordinal)

    def _roll_dice(self, seed: int, ordinal: int, frames: int) -> None:
        """Reset `ordinal` times, and advance the generator behind sticky actions by `frames` frames of play.

        It advances even at a game that is over, so a machine whose game ends early gets there in no time.
        """
        short = ALEInterface()
        short.setFloat("repeat_action_probability", self.protocol.repeat_action_probability)
        short.setInt("random_seed", seed)
        short.setInt("max_num_frames_per_episode", 1000)  # Double Dunk needs a hundred before its game begins
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
        """Return the newest frames, the last of them the maximum of two, uint8 [stack, H, W]; and what was heard."""
        self._pooled = np.maximum(self._pooled, self._older)
        size = (self.protocol.image_size, self.protocol.image_size)
        self._stack[:-1] = self._stack[1:].copy()
        self._stack[-1] = cv2.resize(self._pooled, size, interpolation=cv2.INTER_AREA)
        return (
            self._stack.copy() if self._heard is None else {"image": self._stack.copy(), "sound": self._heard.flatten()}
        )

    def _info(self) -> dict[str, int]:
        return {
            "lives": self.ale.lives(),
            "frame_number": self.ale.getFrameNumber() + self._frames_before,
            "episode_frame_number": self.ale.getEpisodeFrameNumber(),
        }
