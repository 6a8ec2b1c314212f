"""Sounds that are no speech, drawn at random: tones, noises, signals, music. Each function takes a random generator."""

from __future__ import annotations

import numpy as np
import scipy.signal as ss

R = 16_000


def _t(rng, lo=1.0, hi=5.0):
    return np.arange(int(R * rng.uniform(lo, hi))) / R


def colour(rng, n, b):
    s = np.fft.rfft(rng.normal(size=n))
    f = np.arange(len(s))
    f[0] = 1
    x = np.fft.irfft(s / f ** (b / 2), n)
    return x / np.sqrt((x**2).mean())


def tone(rng):
    t = _t(rng)
    f = np.exp(rng.uniform(np.log(60), np.log(4000)))
    return np.sin(2 * np.pi * f * t)


def chord(rng):
    t = _t(rng)
    f = rng.uniform(100, 800)
    r = rng.choice([1, 1.2, 1.25, 1.333, 1.5, 1.667, 2, 2.5], rng.integers(2, 6), replace=False)
    return sum(np.sin(2 * np.pi * f * k * t + rng.uniform(0, 6)) for k in r)


def hum(rng):
    t = _t(rng)
    f = rng.choice([50, 60, 100, 120])
    n = rng.integers(2, 30)
    d = rng.uniform(0.5, 2.0)
    return sum(
        np.sin(2 * np.pi * f * k * t + rng.uniform(0, 6)) / k**d * rng.uniform(0.2, 1)
        for k in range(1, n)
        if f * k < 7900
    ) + rng.uniform(0, 0.05) * rng.normal(size=len(t))


def dial(rng):
    t = _t(rng)
    a, b = [(350, 440), (425, 425), (400, 450), (480, 620)][rng.integers(4)]
    return np.sin(2 * np.pi * a * t) + np.sin(2 * np.pi * b * t)


def busy(rng):
    t = _t(rng, 1.5)
    x = dial_like(rng, t)
    p = rng.uniform(0.4, 1.2)
    return x * ((t % p) < p / 2)


def dial_like(rng, t):
    a, b = [(350, 440), (425, 425), (400, 450), (480, 620)][rng.integers(4)]
    return np.sin(2 * np.pi * a * t) + np.sin(2 * np.pi * b * t)


def white(rng):
    return rng.normal(size=len(_t(rng)))


def pink(rng):
    return colour(rng, len(_t(rng)), 1)


def note(rng, f, dur, nh, decay, att):
    t = np.arange(int(R * dur)) / R
    x = sum(np.sin(2 * np.pi * f * k * t) / k**decay for k in range(1, nh + 1) if f * k < 7900)
    return x * np.minimum(1, t / att) * np.exp(-t * rng.uniform(0.5, 6))


def music(rng):
    n = len(_t(rng, 1.5))
    x = np.zeros(n)
    base = rng.uniform(110, 330)
    sc = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    beat = rng.uniform(0.12, 0.5)
    nh = rng.integers(1, 12)
    dec = rng.uniform(0.7, 2)
    att = rng.uniform(0.003, 0.05)
    pos = 0
    while pos < n:
        for _ in range(rng.integers(1, 4)):
            y = note(rng, base * 2 ** (rng.choice(sc) / 12), beat * rng.uniform(1, 3), nh, dec, att)
            e = min(n, pos + len(y))
            x[pos:e] += y[: e - pos]
        pos += int(beat * R)
    return x


def impulses(rng):
    n = len(_t(rng))
    x = np.zeros(n)
    k = rng.integers(1, 40)
    x[rng.integers(0, n - 200, k)] = rng.normal(size=k)
    if rng.random() < 0.5:
        h = np.exp(-np.arange(400) / rng.uniform(5, 80)) * np.sin(np.arange(400) * rng.uniform(0.05, 2))
        x = np.convolve(x, h)[:n]
    return x


def siren(rng):
    t = _t(rng, 1.5)
    lo = rng.uniform(300, 700)
    hi = rng.uniform(900, 1800)
    p = rng.uniform(0.3, 4)
    m = (np.sin(2 * np.pi * t / p) + 1) / 2 if rng.random() < 0.5 else (ss.square(2 * np.pi * t / p) + 1) / 2
    return np.sin(2 * np.pi * np.cumsum(lo + (hi - lo) * m) / R)


def dtmf(rng):
    n = len(_t(rng, 1.0))
    x = np.zeros(n)
    pos = 0
    on = rng.uniform(0.06, 0.2)
    off = rng.uniform(0.04, 0.2)
    while pos < n:
        a = rng.choice([697, 770, 852, 941])
        b = rng.choice([1209, 1336, 1477, 1633])
        t = np.arange(int(on * R)) / R
        y = np.sin(2 * np.pi * a * t) + np.sin(2 * np.pi * b * t)
        e = min(n, pos + len(y))
        x[pos:e] = y[: e - pos]
        pos += int((on + off) * R)
    return x


FIRST = {
    "tone": tone,
    "chord": chord,
    "hum": hum,
    "dial": dial,
    "busy": busy,
    "white": white,
    "pink": pink,
    "music": music,
    "impulses": impulses,
    "siren": siren,
    "dtmf": dtmf,
}


def brown(rng):
    return colour(rng, len(_t(rng)), 2)


def bandnoise(rng):
    n = len(_t(rng))
    lo = rng.uniform(80, 3000)
    sos = ss.butter(4, [lo, min(7900, lo * rng.uniform(1.2, 3))], "bandpass", fs=R, output="sos")
    return ss.sosfilt(sos, rng.normal(size=n))


def ocean(rng):
    t = _t(rng, 2)
    return colour(rng, len(t), rng.uniform(0.5, 1.5)) * (1.05 + np.sin(2 * np.pi * t * rng.uniform(0.2, 6)))


def strings(rng):
    t = _t(rng, 2)
    x = 0 * t
    base = rng.uniform(130, 400)
    for r in rng.choice([1, 1.26, 1.5, 1.78, 2], rng.integers(1, 4), replace=False):
        f = base * r * (1 + 0.008 * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * t + rng.uniform(0, 6)))
        ph = 2 * np.pi * np.cumsum(f) / R
        x = x + sum(np.sin(k * ph) / k for k in range(1, 15) if base * r * k < 7000)
    return x * np.minimum(1, t / 0.15)


def drums(rng):
    n = len(_t(rng, 2))
    x = np.zeros(n)
    b = int(R * rng.uniform(0.12, 0.3))
    for pos in range(0, n - 8000, b):
        t = np.arange(6000) / R
        k = rng.integers(3)
        y = [
            np.sin(2 * np.pi * (50 + 100 * np.exp(-t * 30)) * t) * np.exp(-t * 12),
            rng.normal(size=6000) * np.exp(-t * 25) * 0.5,
            ss.lfilter([1, -0.95], [1], rng.normal(size=6000)) * np.exp(-t * 60) * 0.3,
        ][k]
        x[pos : pos + 6000] += y
    return x


def bell(rng):
    n = len(_t(rng, 1.5))
    x = np.zeros(n)
    for pos in range(0, n - 2000, int(R * rng.uniform(0.3, 1.5))):
        t = np.arange(n - pos) / R
        fc = rng.uniform(200, 1200)
        x[pos:] += np.sin(
            2 * np.pi * fc * t + rng.uniform(1, 8) * np.exp(-t * 2) * np.sin(2 * np.pi * fc * rng.uniform(0.3, 3.5) * t)
        ) * np.exp(-t * rng.uniform(1, 5))
    return x


def ringback(rng):
    t = _t(rng, 2)
    return (np.sin(2 * np.pi * 440 * t) + np.sin(2 * np.pi * 480 * t)) * ((t % rng.uniform(1.5, 3)) < 1)


def modem(rng):
    n = len(_t(rng, 1))
    b = rng.integers(0, 2, n // 40 + 1).repeat(int(R / rng.choice([300, 600, 1200])))[:n]
    f = np.where(b, rng.uniform(1000, 1400), rng.uniform(1800, 2400))
    return np.sin(2 * np.pi * np.cumsum(f) / R)


def birds(rng):
    n = len(_t(rng, 1.5))
    x = np.zeros(n)
    for _ in range(rng.integers(3, 15)):
        d = int(R * rng.uniform(0.04, 0.3))
        p = rng.integers(0, n - d)
        t = np.arange(d) / R
        f = rng.uniform(2000, 5000) + rng.uniform(-1500, 1500) * np.sin(2 * np.pi * rng.uniform(3, 25) * t)
        x[p : p + d] += np.sin(2 * np.pi * np.cumsum(f) / R) * np.hanning(d)
    return x


def engine(rng):
    t = _t(rng)
    f = rng.uniform(25, 120) * (1 + 0.1 * np.sin(2 * np.pi * t * rng.uniform(0.05, 0.6)))
    ph = 2 * np.pi * np.cumsum(f) / R
    x = ss.sawtooth(ph) + 0.4 * rng.normal(size=len(t)) * (1 + np.sin(ph))
    return ss.sosfilt(ss.butter(2, rng.uniform(400, 2500), fs=R, output="sos"), x)


def metronome(rng):
    n = len(_t(rng, 2))
    x = np.zeros(n)
    f = rng.uniform(600, 3000)
    t = np.arange(800) / R
    y = np.sin(2 * np.pi * f * t) * np.exp(-t * 150)
    for p in range(0, n - 800, int(R * rng.uniform(0.2, 1))):
        x[p : p + 800] += y
    return x


def alarm(rng):
    t = _t(rng, 1)
    p = rng.uniform(0.1, 0.8)
    f = rng.uniform(700, 3500)
    return ss.square(2 * np.pi * f * t) * ((t % p) < p * rng.uniform(0.3, 0.7))


def sweep(rng):
    t = _t(rng)
    return ss.chirp(
        t, rng.uniform(50, 500), t[-1], rng.uniform(1000, 7500), method=str(rng.choice(["linear", "logarithmic"]))
    )


def typing(rng):
    n = len(_t(rng, 1.5))
    x = np.zeros(n)
    for _ in range(rng.integers(5, 40)):
        p = rng.integers(0, n - 1200)
        t = np.arange(1200) / R
        x[p : p + 1200] += (
            ss.lfilter([1], [1, -1.6 * rng.uniform(0.5, 0.95), 0.8], rng.normal(size=1200))
            * np.exp(-t * rng.uniform(60, 300))
            * rng.uniform(0.2, 1)
        )
    return x + 0.002 * rng.normal(size=n)


SECOND = {
    "brown": brown,
    "bandnoise": bandnoise,
    "ocean": ocean,
    "strings": strings,
    "drums": drums,
    "bell": bell,
    "ringback": ringback,
    "modem": modem,
    "birds": birds,
    "engine": engine,
    "metronome": metronome,
    "alarm": alarm,
    "sweep": sweep,
    "typing": typing,
}


def at_random_level(rng, x):
    x = x / np.abs(x).max() * 10 ** (rng.uniform(-30, -1) / 20)
    return x.astype(np.float32)
