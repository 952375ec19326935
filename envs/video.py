"""Videos of games: rendered from action replays in constant memory, with the game's sound, and checked by decoding.

The format is mp4 with H.264 and AAC, written through PyAV. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import gymnasium as gym
import numpy as np

from envs.action_replays import EpisodeRecord, MakeEnv, resimulate
from envs.ale import FRAMES_PER_SECOND, SAMPLES_PER_FRAME, SILENCE, AtariGame
from envs.errors import RecordingError

SOUND_RATE = 44_100
"""Samples per second in the file."""
SMALLEST_SIDE = 160
"""Pixels; smaller frames are enlarged."""
MINATAR_CELL = 24
"""Pixels per side of a cell of the grid."""
MINATAR_COLOURS = np.array(
    [(98, 209, 150), (255, 209, 102), (94, 129, 172), (214, 84, 84), (180, 120, 220), (90, 200, 230), (240, 140, 60),
     (160, 160, 170), (230, 120, 170), (130, 160, 60)], np.uint8,
)  # fmt: skip
"""RGB of each channel of the state; the player is the first channel."""
Overlay = Callable[[int, float], list[str]]
"""(step, score) -> lines of text."""


class Recording(NamedTuple):
    """A video that was written, and the game in it."""

    path: str
    frames: int
    seconds: float
    width: int
    height: int
    has_audio: bool
    steps: int
    """Agent steps shown."""
    score: float
    """Score at the last frame."""


class VideoFacts(NamedTuple):
    """Properties of a decoded video."""

    frames: int
    seconds: float
    width: int
    height: int
    has_audio: bool
    audio_peak: float
    """Largest absolute sample; 0 is silence, 1 full scale."""


class VideoWriter:
    """Write frames uint8 [height, width, 3] and, with a `sound_rate` in Hz, samples uint8 [n] to an mp4 file.

    A context manager: after an exception no new file remains, and an existing one is unchanged. `metadata` are tags of
    the file, such as title. Raises RecordingError if the file cannot be written.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, fps: float, sound_rate: int | None = None, **metadata: str
    ):
        self.path, self.frames, self._samples = Path(path), 0, 0
        self.width, self.height = width + width % 2, height + height % 2  # H.264 with 4:2:0 colour needs even sizes
        self.fps = Fraction(fps).limit_denominator(1000)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with self._guard():
            self._part.touch()  # av.open would report an unwritable folder only later
            self._file = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
            self._file.metadata.update(metadata)
            self._video = self._file.add_stream("libx264", rate=self.fps)
            self._video.width, self._video.height, self._video.pix_fmt = self.width, self.height, "yuv420p"
            self._video.options = {"crf": "18", "preset": "veryfast"}
            self._sound = None
            if sound_rate:
                self._sound_rate = sound_rate
                self._sound = self._file.add_stream("aac", rate=SOUND_RATE, layout="mono")
                self._resampler = av.AudioResampler("fltp", "mono", SOUND_RATE)

    def write(self, frame: np.ndarray, samples: np.ndarray | None = None) -> None:
        """Append one frame, and the sound played during it."""
        height, width = frame.shape[:2]
        if (height, width) != (self.height, self.width):
            assert {self.height - height, self.width - width} <= {0, 1}, "all frames must have the same size"
            frame = np.pad(frame, ((0, self.height - height), (0, self.width - width), (0, 0)), mode="edge")
        with self._guard():
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            image.pts, image.time_base = self.frames, 1 / self.fps
            self._file.mux(self._video.encode(image))
            self.frames += 1
            if self._sound is not None and samples is not None:
                self._write_sound(samples)

    def close(self) -> None:
        """Finish the file and move it to its path; raise RecordingError if it has no frame."""
        with self._guard():
            if not self.frames:
                raise RecordingError(f"{self.path}: no frame was written")
            self._file.mux(self._video.encode(None))
            if self._sound is not None:
                for chunk in self._resampler.resample(None):
                    self._file.mux(self._sound.encode(chunk))
                self._file.mux(self._sound.encode(None))
            self._file.close()
            os.replace(self._part, self.path)

    def abort(self) -> None:
        """Delete the unfinished file."""
        with contextlib.suppress(OSError, av.FFmpegError, AttributeError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _write_sound(self, samples: np.ndarray) -> None:
        assert self._sound is not None
        sound = av.AudioFrame.from_ndarray(samples[None], format="u8", layout="mono")
        sound.sample_rate, sound.pts = self._sound_rate, self._samples
        sound.time_base = Fraction(1, self._sound_rate)
        self._samples += len(samples)
        for chunk in self._resampler.resample(sound):
            self._file.mux(self._sound.encode(chunk))

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise RecordingError(f"cannot write {self.path}: {error.strerror or error}") from error
        except BaseException:
            self.abort()
            raise


def render_replay(
    record: EpisodeRecord, previous: Sequence[EpisodeRecord], path: str | Path, make_env: MakeEnv, scale: int = 1,
    sound: bool = True, overlay: Overlay | None = None, max_steps: int | None = None,
) -> Recording:  # fmt: skip
    """Play a recorded episode again, verify it and write its video.

    Atari games are shown at 60 frames per second, with sound; other games with one frame per step. `previous` are the
    episodes before it (see `previous_episodes`). `scale` enlarges the frames. `max_steps` ends the video early. Raises
    ReplayError, and writes no video, if the record is wrong.
    """
    steps = resimulate(record, previous, make_env)
    step = next(steps)
    game = step.env.unwrapped
    atari = isinstance(game, AtariGame)

    def compose(frame: np.ndarray) -> np.ndarray:
        frame = enlarge(frame, scale)
        return draw_text(frame, overlay(step.step, step.score), below=not atari) if overlay else frame

    first = compose(render_frame(step.env))
    pending: list[tuple[np.ndarray, np.ndarray | None]] = []
    fps, rate = float(step.env.metadata.get("render_fps") or 10), None
    if isinstance(game, AtariGame):
        game.on_frame = lambda frame, samples: pending.append((frame, samples))
        fps, rate = FRAMES_PER_SECOND, FRAMES_PER_SECOND * SAMPLES_PER_FRAME if sound else None
    with VideoWriter(path, first.shape[1], first.shape[0], fps, rate, **_tags(record)) as writer:
        writer.write(first, np.full(SAMPLES_PER_FRAME, SILENCE, np.uint8))
        for step in steps:
            if not atari:
                pending.append((render_frame(step.env), None))
            for frame, samples in pending:
                writer.write(compose(frame), samples)
            pending.clear()
            if step.step == max_steps:
                break
        steps.close()  # type: ignore[attr-defined]
    seconds = float(writer.frames / writer.fps)
    size = (writer.width, writer.height)
    return Recording(str(path), writer.frames, seconds, *size, rate is not None, step.step, step.score)


def _tags(record: EpisodeRecord) -> dict[str, str]:
    """Return the metadata of a video: the score, and which weights played."""
    tags = {"title": f"{record.env_id} score {record.episode_return:g}"}
    if "weights_sha256" in record.extras:
        tags["comment"] = f"weights {record.extras['weights_sha256']}"
    return tags


def render_frame(env: gym.Env) -> np.ndarray:
    """Render the game for people: uint8 [height, width, 3], no side below 160.

    Raises RecordingError for an environment that cannot be rendered.
    """
    game = env.unwrapped
    if type(game).__module__.startswith("minatar"):
        state = game.game.state()  # type: ignore[attr-defined]
        frame = np.full((*state.shape[:2], 3), 24, np.uint8)
        for channel in reversed(range(state.shape[2])):  # the first channel is drawn on top
            frame[state[:, :, channel]] = MINATAR_COLOURS[channel]
        return enlarge(frame, MINATAR_CELL)
    image: Any = None
    with contextlib.suppress(NotImplementedError):  # raised by Gymnasium's base class
        image = env.render()
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        name = env.spec.id if env.spec else type(game).__name__
        raise RecordingError(f"{name} cannot be recorded: it does not render images")
    return enlarge(image.astype(np.uint8), -(-SMALLEST_SIDE // min(image.shape[:2])))


def enlarge(frame: np.ndarray, factor: int) -> np.ndarray:
    """Repeat each pixel `factor` times in both directions: [H, W, 3] -> [factor H, factor W, 3]."""
    return frame if factor == 1 else frame.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_text(frame: np.ndarray, lines: Sequence[str], below: bool = False) -> np.ndarray:
    """Return a copy of the frame with white text on a dark strip, over its lower edge or in rows added `below` it."""
    font = cv2.FONT_HERSHEY_PLAIN
    height, width = frame.shape[:2]
    widest = max((cv2.getTextSize(line, font, 1.0, 1)[0][0] for line in lines), default=1)
    size = min(max(0.8, width / 400), (width - 6) / widest, height / (30 * max(len(lines), 1)))
    line_height = round(13 * size) + 2
    strip = line_height * len(lines) + 2
    frame = np.pad(frame, ((0, strip if below else 0), (0, 0), (0, 0)))
    top = len(frame) - strip
    frame[top:] = frame[top:] * 0.4  # the game stays visible under the text
    for number, line in enumerate(lines):
        at = (3, top + line_height * (number + 1) - 2)
        cv2.putText(frame, line, at, font, size, (255, 255, 255), 1, cv2.LINE_AA)
    return frame


def check_video(path: str | Path, expected_seconds: float | None = None) -> VideoFacts:
    """Decode the whole video and return its properties.

    Raises RecordingError if it cannot be decoded, if all sampled frames are of one colour, or if its duration differs
    from the expected one by more than a tenth and more than a second.
    """
    frames, contrast, peak = 0, 0, 0.0
    try:
        with av.open(str(path)) as file:
            video, sounds = file.streams.video[0], file.streams.audio
            width, height, has_audio = video.width, video.height, bool(sounds)
            for part in file.decode(*file.streams):
                if isinstance(part, av.VideoFrame):
                    if frames % 16 == 0:
                        contrast = max(contrast, int(np.ptp(part.to_ndarray(format="rgb24"), axis=(0, 1)).max()))
                    frames += 1
                elif isinstance(part, av.AudioFrame):
                    peak = max(peak, float(np.abs(part.to_ndarray()).max()))
            seconds = float(frames / (video.average_rate or 1))
    except (OSError, av.FFmpegError, IndexError) as error:
        raise RecordingError(f"{path} cannot be played: {getattr(error, 'strerror', None) or error}") from error
    if not frames or contrast < 8:
        raise RecordingError(f"{path} is blank: {frames} frames of one colour")
    if expected_seconds is not None and abs(seconds - expected_seconds) > max(1.0, 0.1 * expected_seconds):
        raise RecordingError(f"{path} lasts {seconds:.1f} s instead of {expected_seconds:.1f} s")
    return VideoFacts(frames, seconds, width, height, has_audio, peak)
