"""How well a speech-to-text run hears people: missions to be said, and what was heard of their recordings."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.table import Table

from agents.errors import ConfigError
from agents.run import provenance
from networks.encoders import store
from networks.supervised import corpora, metrics
from networks.supervised.mission_grammar import say
from scripts.report.tables import wide_console
from scripts.runner import mission_channels
from scripts.supervised.tasks.mission_text import different
from scripts.supervised.train_task import say_line

SPEAKER = "me-1"
"""Speaker and chapter, by which LibriSpeech names its files."""
MISSIONS, MOST = 30, 1_000


def record(arguments: argparse.Namespace) -> None:
    """Write what to say into a folder without recordings; with them, print what was heard, and error rates as JSON."""
    if len(arguments.runs) != 1 or arguments.data is None:
        raise ConfigError("record takes the folder of a speech-to-text run, and --data FOLDER for the recordings")
    stored = store.load(arguments.runs[0])
    mission_channels.channel_renderer("speech", stored)
    understand = mission_channels.interpreter(stored)
    console = wide_console()
    if not any(arguments.data.rglob("*.trans.txt")):
        count = MISSIONS if arguments.examples is None else arguments.examples
        if not 1 <= count <= MOST:
            raise ConfigError(f"--examples must be 1 to {MOST:,}, the missions to be said, not {count}")
        listed = write_list(arguments.data, count)
        say_line(console, f"say the lines of {listed}, and save each beside it as {SPEAKER}-0000.wav and so on;")
        say_line(console, "any rate will do, such as: arecord -f S16_LE -r 16000 -d 5 FILE; then type this again")
        return
    length, rate = int(stored.encoder.spec.input["shape"][0]), int(stored.encoder.spec.input["sample_rate"])
    said = list(corpora.read_librispeech(arguments.data))
    heard = [understand(mission_channels.recorded(each.file, length, rate)) for each in said]
    table = Table("recording", "said", "heard", box=None)
    for each, text in zip(said, heard, strict=True):
        table.add_row(each.file.name, each.text, text)
    console.print(table)
    found = metrics.error_rates(heard, [each.text for each in said])
    run = provenance.relative(str(arguments.runs[0]))
    speakers = len({each.speaker for each in said})
    print(json.dumps({"run": run, "speakers": speakers, **found, "sha256": stored.sha256}))


def write_list(folder: Path, count: int) -> Path:
    """Write a list of different missions as LibriSpeech does, one to a line behind the name of its recording."""
    texts = [
        say(mission) for mission in different(np.random.default_rng(0), count, lambda each: len(each.clauses) == 1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / f"{SPEAKER}.trans.txt"
    listed.write_text("".join(f"{SPEAKER}-{number:04d} {text}\n" for number, text in enumerate(texts)))
    return listed
