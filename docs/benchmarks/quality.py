"""Estimates of the recording quality against what is known: prints the table in docs/benchmarks.md.

    .venv/bin/python docs/benchmarks/quality.py FOLDER

FOLDER holds clean WAV files, such as the actors of RAVDESS. Every ninth file is used.
"""

from __future__ import annotations

import sys
import timeit
from pathlib import Path

import numpy as np

from emotion.audio import decode
from emotion.audio.conditions import at_bandwidth, clipped, coloured_noise, telephone, with_noise
from emotion.features import quality


def show(name: str, clips: list[np.ndarray]) -> None:
    figures = np.array([quality.measure(clip) for clip in clips])
    cells = []
    for number, form in enumerate(("{:.1f}", "{:.1f}", "{:,.0f}", "{:.2%}", "{:.2f}")):
        values = figures[:, number][~np.isnan(figures[:, number])]
        low, middle, high = np.percentile(values, [5, 50, 95])
        cells.append(f"{form.format(middle)} ({form.format(low)} to {form.format(high)})")
    unknown = int(np.isnan(figures[:, 1]).sum())
    print(f"| {name} | {' | '.join(cells)} | {unknown / len(clips):.0%} |")


def main() -> None:
    rng = np.random.default_rng(0)
    clips = [decode.load(path).samples for path in sorted(Path(sys.argv[1]).rglob("*.wav"))[::9]]
    print("| condition | level, dB | SNR, dB | bandwidth, Hz | clipped | speech, s | SNR not known |")
    print("|---|---|---|---|---|---|---|")
    show("clean", clips)
    for gain in (-30, -20, 6):
        show(f"gain {gain:+d} dB", [(clip * 10 ** (gain / 20)).astype(np.float32) for clip in clips])
    for kind, slope in (("white", 0), ("pink", 1)):
        for snr in (40, 30, 20, 10, 5, 0):
            noisy = [with_noise(clip, coloured_noise(len(clip), rng, slope), snr) for clip in clips]
            show(f"{kind} noise, {snr} dB", noisy)
    for rate in (4000, 8000, 11025):
        show(f"sample rate {rate:,} Hz", [at_bandwidth(clip, rate / 2) for clip in clips])
    show("telephone: 300 to 3,400 Hz, µ-law", [telephone(clip) for clip in clips])
    for percent in (1, 5, 10):
        show(f"{percent} % of the speech clipped", [clipped(clip, percent / 100) for clip in clips])
    milliseconds = [1000 * min(timeit.repeat(lambda clip=clip: quality.measure(clip), number=1)) for clip in clips]
    print(f"\n{np.median(milliseconds):.2f} ms a clip, {len(clips)} clips")


if __name__ == "__main__":
    main()
