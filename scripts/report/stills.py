"""Stills of videos: the picture that a page shows until a video is played."""

from __future__ import annotations

import base64
from pathlib import Path

WIDTH, QUALITY = 480, 70
"""Largest width of a still, in pixels, and its JPEG quality."""


def still(path: Path) -> str | None:
    """Return the key frame before the middle of a video as a JPEG data URL; None for a file that is no video."""
    import av
    import cv2
    import numpy as np

    try:
        with av.open(str(path)) as container:
            if container.duration:
                container.seek(container.duration // 2)
            picture: np.ndarray = next(container.decode(video=0)).to_ndarray(format="bgr24")
    except (av.FFmpegError, IndexError, StopIteration, OSError):
        return None
    if picture.shape[1] > WIDTH:
        height = round(picture.shape[0] * WIDTH / picture.shape[1])
        picture = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
