"""Estimates of the recording quality against what is known: prints the table in docs/benchmarks.md.

    .venv/bin/python docs/benchmarks/quality.py FOLDER

FOLDER holds clean WAV files, such as the actors of RAVDESS. Every ninth file is used.
"""

from __future__ import annotations

import sys
import timeit
from pathlib import Path

import numpy as np
import scipy.signal
import soxr

from emotion.audio import decode
from emotion.features import quality

RATE = 16_000


def speech_power(samples: np.ndarray) -> float:
    """The mean power of the blocks of 10 ms that are at most 30 dB below the loud ones."""
    power = (samples[: len(samples) // 160 * 160].reshape(-1, 160) ** 2).mean(axis=1) + 1e-14
    return float(power[power >= np.sort(power)[int(0.98 * (len(power) - 1))] / 1000].mean())


def with_noise(samples: np.ndarray, snr: float, slope: float, rng: np.random.Generator) -> np.ndarray:
    """With noise whose power falls with frequency to the power of ``slope``: 0 white, 1 pink."""
    spectrum = np.fft.rfft(rng.normal(size=len(samples)))
    frequency = np.maximum(np.arange(len(spectrum)), 1)
    noise = np.fft.irfft(spectrum / frequency ** (slope / 2), len(samples))
    scale = np.sqrt(speech_power(samples) / 10 ** (snr / 10) / (noise**2).mean())
    return (samples + scale * noise).astype(np.float32)


def at_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(soxr.resample(samples, RATE, rate), rate, RATE).astype(np.float32)


def telephone(samples: np.ndarray) -> np.ndarray:
    band = scipy.signal.butter(8, [300, 3400], "bandpass", fs=8000, output="sos")
    narrow = scipy.signal.sosfilt(band, soxr.resample(samples, RATE, 8000))
    return soxr.resample(narrow, 8000, RATE).astype(np.float32)


def clipped(samples: np.ndarray, percent: float) -> np.ndarray:
    limit = np.percentile(np.abs(samples), 100 - percent)
    return np.clip(samples, -limit, limit)


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
            show(f"{kind} noise, {snr} dB", [with_noise(clip, snr, slope, rng) for clip in clips])
    for rate in (4000, 8000, 11025):
        show(f"sample rate {rate:,} Hz", [at_rate(clip, rate) for clip in clips])
    show("telephone band, 300 to 3,400 Hz", [telephone(clip) for clip in clips])
    for percent in (1, 5, 10):
        show(f"{percent} % clipped", [clipped(clip, percent) for clip in clips])
    milliseconds = [1000 * min(timeit.repeat(lambda clip=clip: quality.measure(clip), number=1)) for clip in clips]
    print(f"\n{np.median(milliseconds):.2f} ms a clip, {len(clips)} clips")


if __name__ == "__main__":
    main()
