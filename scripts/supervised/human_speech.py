"""Evaluate a speech-to-text run on human speech: missions to read aloud, and error rates of their recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from agents.errors import ConfigError
from agents.run import provenance
from networks.encoders import store
from networks.files import write_atomically
from networks.supervised import corpora, metrics
from networks.supervised.mission_grammar import to_english
from scripts.report.tables import print_line, wide_console
from scripts.runner import mission_channels
from scripts.supervised.options import RecordOptions
from scripts.supervised.tasks.mission_text import draw_distinct

SPEAKER = "me-1"
"""Speaker and chapter, as in LibriSpeech's file names."""
MISSIONS, MAX_MISSIONS = 30, 1_000


def record(options: RecordOptions) -> None:
    """Write a list of missions into a folder without one; otherwise transcribe its recordings and print error rates."""
    if len(options.runs) != 1 or options.data is None:
        raise ConfigError("record takes the folder of a speech-to-text run, and --data FOLDER for the recordings")
    stored = store.load(options.runs[0])
    mission_channels.channel_renderer("speech", stored)
    transcribe = mission_channels.interpreter(stored)
    console = wide_console()
    if not any(options.data.rglob("*.trans.txt")):
        count = MISSIONS if options.examples is None else options.examples
        if not 1 <= count <= MAX_MISSIONS:
            raise ConfigError(f"--examples must be 1 to {MAX_MISSIONS:,} missions, not {count}")
        path = write_missions(options.data, count)
        print_line(console, f"read the lines of {path} aloud; save each beside it as {SPEAKER}-0000.wav and so on,")
        print_line(console, "at any rate, e.g. arecord -f S16_LE -r 16000 -d 5 FILE; then run this command again")
        return
    length, rate = int(stored.encoder.spec.input["shape"][0]), int(stored.encoder.spec.input["sample_rate"])
    utterances = list(corpora.read_librispeech(options.data))
    transcripts = [transcribe(mission_channels.recorded(each.file, length, rate)) for each in utterances]
    table = Table("recording", "text", "transcript", box=None)
    for utterance, transcript in zip(utterances, transcripts, strict=True):
        table.add_row(escape(utterance.file.name), escape(utterance.text), escape(transcript))
    console.print(table)
    rates = metrics.error_rates(transcripts, [each.text for each in utterances])
    run = provenance.relative(str(options.runs[0]))
    speakers = len({each.speaker for each in utterances})
    print(json.dumps({"run": run, "speakers": speakers, **rates, "sha256": stored.sha256}))


def write_missions(folder: Path, count: int) -> Path:
    """Write `count` distinct single-clause missions in LibriSpeech's format, each after its recording's name."""
    missions = draw_distinct(np.random.default_rng(0), count, lambda mission: len(mission.clauses) == 1)
    lines = [f"{SPEAKER}-{number:04d} {to_english(mission)}\n" for number, mission in enumerate(missions)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{SPEAKER}.trans.txt"
    write_atomically(path, "".join(lines))
    return path
