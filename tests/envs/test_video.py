import subprocess
import sys
from dataclasses import replace

import av
import gymnasium as gym
import numpy as np
import pytest

from envs.errors import RecordingError, ReplayError
from envs.make import make_env
from envs.video import MINATAR_COLOURS, VideoWriter, check_video, draw_text, enlarge, render_frame, render_replay
from tests.envs.helpers import edited, episodes

PONG = "ALE/Pong-v5"


def frames_of(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def picture(number: int, height: int = 40, width: int = 60) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, : width // 2] = (200, 30, 30)
    frame[5 : 5 + number % 20] = (30, 30, 220)
    return frame


def write_video(path, frames=30, fps=10.0, **kwargs):
    with VideoWriter(path, 60, 40, fps, **kwargs) as writer:
        for number in range(frames):
            writer.write(picture(number))


class TestWriter:
    def test_frames_are_decoded_in_order_and_colour(self, tmp_path):
        write_video(tmp_path / "a.mp4", title="CartPole 500", comment="weights abc")
        frames = frames_of(tmp_path / "a.mp4")
        assert len(frames) == 30
        for number in (0, 7, 19):
            error = np.abs(frames[number].astype(int) - picture(number))
            assert np.median(error) < 12
        with av.open(str(tmp_path / "a.mp4")) as file:
            assert file.metadata["title"] == "CartPole 500"
            assert file.metadata["comment"] == "weights abc"
            assert file.streams.video[0].codec_context.name == "h264"
            assert file.streams.video[0].pix_fmt == "yuv420p"
        assert check_video(tmp_path / "a.mp4", 3.0).seconds == 3.0

    def test_odd_sizes_are_padded_to_even(self, tmp_path):
        with VideoWriter(tmp_path / "odd.mp4", 61, 41, 5) as writer:
            writer.write(picture(3, 41, 61))
            writer.write(picture(4, 41, 61))
        assert frames_of(tmp_path / "odd.mp4")[0].shape == (42, 62, 3)

    def test_sound_keeps_its_pitch_and_length(self, tmp_path):
        rate, tone = 30_720, 880
        wave = np.uint8(128 + 90 * np.sin(2 * np.pi * tone * np.arange(rate * 2) / rate))
        with VideoWriter(tmp_path / "tone.mp4", 60, 40, 60, rate) as writer:
            for number, samples in enumerate(wave.reshape(120, 512)):
                writer.write(picture(number), samples)
        with av.open(str(tmp_path / "tone.mp4")) as file:
            assert file.streams.audio[0].codec_context.name == "aac"
            assert file.streams.audio[0].rate == 44_100
            sound = np.concatenate([part.to_ndarray()[0] for part in file.decode(audio=0)])
        assert abs(len(sound) / 44_100 - 2) < 0.06
        middle = sound[20_000:64_100]
        assert abs(np.argmax(np.abs(np.fft.rfft(middle))) - tone) <= 2
        assert 0.6 < np.abs(middle).max() < 0.8

    def test_an_exception_leaves_only_the_old_video(self, tmp_path):
        path = tmp_path / "a.mp4"
        write_video(path)
        before = path.read_bytes()

        def fail() -> None:
            with VideoWriter(path, 60, 40, 10) as writer:
                writer.write(picture(0))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert path.read_bytes() == before
        assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]

    def test_nothing_written_is_an_error(self, tmp_path):
        with pytest.raises(RecordingError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 60, 40, 10):
            pass
        assert not list(tmp_path.iterdir())

    def test_missing_folder_is_one_line(self, tmp_path):
        with pytest.raises(RecordingError, match=r"cannot write .*a.mp4: No such file") as caught:
            VideoWriter(tmp_path / "none" / "a.mp4", 60, 40, 10)
        assert "\n" not in str(caught.value)

    def test_a_full_disk_is_one_line_and_leaves_no_file(self, tmp_path):
        """A limit on file size stands in for a full disk: the same system call fails."""
        script = (
            "import resource, sys, numpy as np\n"
            "from envs.video import RecordingError, VideoWriter\n"
            "noise = np.random.default_rng(0)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            "try:\n"
            "    with VideoWriter(sys.argv[1], 160, 120, 30) as writer:\n"
            "        for _ in range(200):\n"
            "            writer.write(noise.integers(256, size=(120, 160, 3), dtype=np.uint8))\n"
            "except RecordingError as error:\n"
            "    print(error)\n"
        )
        path = tmp_path / "big.mp4"
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"cannot write {path}: ")
        assert done.stdout.count("\n") == 1
        assert not list(tmp_path.iterdir())


class TestCheck:
    def test_one_colour(self, tmp_path):
        with VideoWriter(tmp_path / "black.mp4", 60, 40, 10) as writer:
            for _ in range(20):
                writer.write(np.zeros((40, 60, 3), np.uint8))
        with pytest.raises(RecordingError, match="is blank"):
            check_video(tmp_path / "black.mp4")

    def test_wrong_duration(self, tmp_path):
        write_video(tmp_path / "a.mp4")
        with pytest.raises(RecordingError, match=r"lasts 3.0 s instead of 30.0 s"):
            check_video(tmp_path / "a.mp4", 30.0)

    def test_truncated_missing_and_no_video(self, tmp_path):
        write_video(tmp_path / "a.mp4")
        data = (tmp_path / "a.mp4").read_bytes()
        (tmp_path / "a.mp4").write_bytes(data[:300])
        (tmp_path / "text.mp4").write_text("hello")
        for name in ("a.mp4", "text.mp4", "none.mp4"):
            with pytest.raises(RecordingError, match=f"{name} cannot be played") as caught:
                check_video(tmp_path / name)
            assert "\n" not in str(caught.value)


class TestRender:
    def test_pong_at_native_size_with_sound_and_score(self, tmp_path):
        record = replace(episodes(PONG, 2)[0], extras={"weights_sha256": "ab" * 32})
        calls: list[tuple[int, float]] = []

        def overlay(step: int, score: float) -> list[str]:
            calls.append((step, score))
            return [f"step {step}  score {score:g}"]

        path = tmp_path / "pong.mp4"
        video = render_replay(record, (), path, make_env, overlay=overlay)
        assert video.frames == 401
        assert (video.width, video.height, video.has_audio) == (160, 210, True)
        assert (video.steps, video.score) == (100, record.episode_return)
        assert calls[-1] == (100, record.episode_return)
        checked = check_video(path, 401 / 60)
        assert checked.frames == 401
        assert checked.audio_peak > 0.1
        frame = frames_of(path)[200]
        assert np.abs(frame[100, 80].astype(int) - (144, 72, 17)).max() < 12, "Pong is brown"
        assert frame[190:].max() > 200, "white text"
        with av.open(str(path)) as file:
            assert file.metadata["comment"] == "weights " + "ab" * 32

    def test_scale_sound_and_max_steps(self, tmp_path):
        record = episodes(PONG, 2)[0]
        video = render_replay(record, (), tmp_path / "a.mp4", make_env, scale=2, sound=False, max_steps=10)
        assert video.frames == 41
        checked = check_video(tmp_path / "a.mp4")
        assert (checked.width, checked.height, checked.has_audio) == (320, 420, False)

    @pytest.mark.parametrize(
        ("env_id", "count", "colours"),
        [("MinAtar/Breakout-v1", 12, 4), ("CartPole-v1", 12, 3), ("MiniGrid-DoorKey-5x5-v0", 4, 3)],
    )
    def test_other_families_are_readable(self, env_id, count, colours, tmp_path):
        records = episodes(env_id, count)
        video = render_replay(records[0], (), tmp_path / "a.mp4", make_env, overlay=lambda step, score: [f"{score:g}"])
        assert video.frames == records[0].length + 1
        assert min(video.width, video.height) >= 160
        assert not video.has_audio
        check_video(tmp_path / "a.mp4", video.seconds)
        frame = frames_of(tmp_path / "a.mp4")[1] // 32
        kinds, counts = np.unique(frame.reshape(-1, 3), axis=0, return_counts=True)
        assert len(kinds[counts > 50]) >= colours

    def test_a_forged_record_leaves_no_video(self, tmp_path):
        record = edited(episodes(PONG, 2)[0], episode_return=21.0)
        with pytest.raises(ReplayError, match="the score is"):
            render_replay(record, (), tmp_path / "a.mp4", make_env)
        assert not list(tmp_path.iterdir())


class TestPictures:
    def test_minatar_draws_each_object_in_its_colour(self):
        env = make_env("MinAtar/Breakout-v1")
        env.reset(seed=0)
        state, frame = env.unwrapped.game.state(), render_frame(env)
        assert frame.shape == (240, 240, 3)
        for channel in (0, 1, 3):  # paddle, ball, bricks; the trail is drawn beneath the ball
            row, column = np.argwhere(state[:, :, channel])[0]
            assert (frame[row * 24 + 12, column * 24 + 12] == MINATAR_COLOURS[channel]).all()

    def test_every_minatar_game_is_drawn(self):
        for name in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"):
            env = make_env(f"MinAtar/{name}-v1")
            env.reset(seed=0)
            assert len(np.unique(render_frame(env).reshape(-1, 3), axis=0)) >= 2

    @pytest.mark.parametrize("env_id", ["CartPole-v1", "joypad/Chain-v0"])
    def test_an_environment_without_images(self, env_id):
        env = make_env(env_id, render_mode=None)
        env.reset(seed=0)
        with pytest.raises(RecordingError, match="does not render images"):
            render_frame(env)

    def test_small_frames_are_enlarged(self):
        class Small(gym.Env):
            def render(self):
                return np.zeros((50, 70, 3), np.uint8)

        assert render_frame(Small()).shape == (200, 280, 3)

    def test_enlarge_repeats_pixels(self):
        frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        assert (enlarge(frame, 3)[:3, :3] == frame[0, 0]).all()
        assert (enlarge(frame, 3)[3:, 3:] == frame[1, 1]).all()

    @pytest.mark.parametrize("size", [(210, 160), (420, 320), (64, 1000)])
    def test_text_fits_the_frame(self, size):
        frame = np.full((*size, 3), 255, np.uint8)
        drawn = draw_text(frame, ["step 12345  score -21", "value -0.123"])
        assert (frame == 255).all(), "the input frame is unchanged"
        changed = (drawn != frame).any(axis=(1, 2))
        assert 10 < changed.sum() < size[0] * 0.6
        assert changed[-1]
        assert not changed[0]
        narrow = frame[:, :160]
        long = draw_text(narrow, ["a line that is longer than the 160 pixels"])
        strip = long[(long != narrow).any(axis=(1, 2))]
        assert strip.max() > 150, "there is text"
        assert strip[:, -2:].max() < 110, "and it ends before the edge"

    def test_text_below_leaves_the_frame_unchanged(self):
        frame = np.full((100, 160, 3), 77, np.uint8)
        drawn = draw_text(frame, ["score 1"], below=True)
        assert len(drawn) > 110
        assert (drawn[:100] == 77).all()
        assert drawn[100:].max() > 200
