"""Inner loops of the acoustic recipe, compiled when first called and cached on disk.

Loops stand here, and not array operations in :mod:`emotion.features`, where a frame's values are used several times:
each is then read once, while it is in the processor's cache, and nothing is allocated in between.

Sums may be reordered (``reassoc``), which lets them run in vector registers; the order is fixed when a loop is
compiled, so results are the same wherever it runs on one machine, on any number of threads, unlike those of BLAS.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_compiled = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "arcp", "contract"})


@_compiled
def project(rows, weights, first, last):
    """Weighted sums of each row: ``rows @ weights.T``, where weight w is zero outside of ``first[w]:last[w]``.

    Parameters
    ----------
    rows : float32 array, shape (n, m)
    weights : float32 array, shape (w, m)
    first, last : int array, shape (w,)

    Returns
    -------
    float32 array, shape (w, n)
    """
    out = np.empty((len(weights), len(rows)), dtype=np.float32)
    few = 8  # rows at a time, which stay in the innermost cache while the weights pass by
    for start in range(0, len(rows), few):
        for w in range(len(weights)):
            weight = weights[w, first[w] : last[w]]
            for n in range(start, min(start + few, len(rows))):
                row = rows[n, first[w] : last[w]]
                total = np.float32(0)
                for m in range(len(row)):
                    total += row[m] * weight[m]
                out[w, n] = total
    return out


@_compiled
def powers(spectrum, power, magnitude):
    """Put squared moduli into ``power`` and moduli into ``magnitude``, each float32 of shape (n, m).

    Parameters
    ----------
    spectrum : float32 array, shape (n, 2 m)
        Real and imaginary parts in turn.
    """
    for i in range(power.shape[0]):
        for k in range(power.shape[1]):
            power[i, k] = spectrum[i, 2 * k] ** 2 + spectrum[i, 2 * k + 1] ** 2
            magnitude[i, k] = math.sqrt(power[i, k])


@_compiled
def reached(magnitude, shares):
    """First bin up to which the sum of a frame's bins reaches each share of its total: shape (len(shares), n)."""
    n, bins = magnitude.shape
    out = np.empty((len(shares), n), dtype=np.int64)
    for i in range(n):
        total = np.float32(0)
        for k in range(bins):
            total += magnitude[i, k]
        k, below = -1, np.float32(0)
        for s in range(len(shares)):
            while below < shares[s] * total and k < bins - 1:
                k += 1
                below += magnitude[i, k]
            out[s, i] = max(k, 0)
    return out


@_compiled
def dot_rows(a, b):
    """Sum of products of each row of a with that of b: shape (n,)."""
    out = np.empty(len(a), dtype=np.float32)
    for i in range(len(a)):
        total = np.float32(0)
        for k in range(a.shape[1]):
            total += a[i, k] * b[i, k]
        out[i] = total
    return out


@_compiled
def pitch_candidates(autocorrelation, window, least, count, octave_cost):
    """Highest peaks of each frame's normalized autocorrelation above 0.2, short lags preferred.

    Parameters
    ----------
    autocorrelation : float32 array, shape (n, lags)
    window : float32 array, shape (longest + 1,)
        The window's autocorrelation, which divides the frame's.
    least : int
        Shortest lag searched; the longest is the last but one of ``window``.
    count : int
        Peaks kept.
    octave_cost : float32
        What a peak loses with each octave of its lag.

    Returns
    -------
    lag, height : float32 array, shape (n, count)
        Of each peak, by a parabola through its three points; 0 where a frame has fewer.
    """
    n, longest = len(autocorrelation), len(window) - 2
    lag, height = np.zeros((n, count), dtype=np.float32), np.zeros((n, count), dtype=np.float32)
    cost = (octave_cost * np.log2(np.arange(longest + 1) / longest)).astype(np.float32)
    normal = np.empty(len(window), dtype=np.float32)
    scores = np.empty(count, dtype=np.float32)
    for i in range(n):
        scale = 1 / max(autocorrelation[i, 0], np.float32(1e-12))
        for k in range(len(window)):
            normal[k] = autocorrelation[i, k] * scale / window[k]
        scores[:] = -np.inf
        for k in range(least, longest + 1):
            a, b, c = normal[k - 1], normal[k], normal[k + 1]
            if not (b > a and b >= c and b > np.float32(0.2)):
                continue
            worst = scores.argmin()
            if b - cost[k] > scores[worst]:
                scores[worst] = b - cost[k]
                shift = np.float32(0.5) * (a - c) / min(a - 2 * b + c, np.float32(-1e-6))
                lag[i, worst] = k + shift
                height[i, worst] = min(max(b - np.float32(0.25) * (a - c) * shift, np.float32(0)), np.float32(1))
    return lag, height


@_compiled
def best_path(gains, steps):
    """Viterbi's path: the state at each frame that makes the sum of gains greatest.

    Parameters
    ----------
    gains : float array, shape (n, k)
        Of each state at each frame.
    steps : float array, shape (n - 1, k, k)
        Gain of a step, [frame, to, from].

    Returns
    -------
    int array, shape (n,)
    """
    n, k = gains.shape
    came, total = np.zeros((n, k), dtype=np.int64), gains.copy()
    for i in range(1, n):
        for to in range(k):
            best = 0
            for start in range(1, k):
                if total[i - 1, start] + steps[i - 1, to, start] > total[i - 1, best] + steps[i - 1, to, best]:
                    best = start
            came[i, to] = best
            total[i, to] += total[i - 1, best] + steps[i - 1, to, best]
    path = np.empty(n, dtype=np.int64)
    path[-1] = total[-1].argmax()
    for i in range(n - 1, 0, -1):
        path[i - 1] = came[i, path[i]]
    return path


@_compiled
def levinson(r):
    """Levinson's recursion on autocorrelations, shape (order + 1, n).

    Returns
    -------
    reflections : float64 array, shape (order, n)
    predictor : float64 array, shape (order + 1, n)
    """
    order, n = r.shape[0] - 1, r.shape[1]
    reflections, predictor = np.zeros((order, n)), np.zeros((order + 1, n))
    predictor[0] = 1
    error = r[0].copy()
    for step in range(1, order + 1):
        k = reflections[step - 1]
        for i in range(step):
            for t in range(n):
                k[t] -= predictor[i, t] * r[step - i, t]
        for t in range(n):
            k[t] /= error[t]
            error[t] *= 1 - k[t] ** 2
        for i in range(step // 2 + 1):  # from both ends, so that each pair is replaced at once
            for t in range(n):
                low, high = predictor[i, t], predictor[step - i, t]
                predictor[i, t] = low + k[t] * high
                if i < step - i:
                    predictor[step - i, t] = high + k[t] * low
    return reflections, predictor


@_compiled
def formants(predictor, cosines, count):
    """The first peaks of each frame's linear-prediction envelope 1 / |A|².

    Parameters
    ----------
    predictor : float64 array, shape (order + 1, n)
    cosines : float64 array, shape (order + 1, bins)
        From the predictor's autocorrelation to |A|² at bins.
    count : int
        Peaks wanted.

    Returns
    -------
    position, level : float32 array, shape (count, n)
        In bins, and in dB, by a parabola through three points in dB; where a frame has fewer peaks, the last bin but
        one and the level there.
    """
    order, n, bins = len(predictor) - 1, predictor.shape[1], cosines.shape[1]
    position, level = np.empty((count, n), dtype=np.float32), np.empty((count, n), dtype=np.float32)
    row = np.empty(bins)
    for i in range(n):
        row[:] = 0
        for lag in range(order + 1):
            product = 0.0
            for j in range(order + 1 - lag):
                product += predictor[j, i] * predictor[j + lag, i]
            for k in range(bins):
                row[k] += product * cosines[lag, k]
        number = 0
        for k in range(1, bins - 1):
            if number < count and row[k] < row[k - 1] and row[k] <= row[k + 1]:
                a, b, c = _inverse_db(row[k - 1]), _inverse_db(row[k]), _inverse_db(row[k + 1])
                position[number, i] = k + 0.5 * (a - c) / min(a - 2 * b + c, -1e-6)
                level[number, i] = b
                number += 1
        position[number:, i], level[number:, i] = bins - 2, _inverse_db(row[bins - 2])
    return position, level


@_compiled
def _inverse_db(power):
    return -10 * math.log10(max(power, 1e-12))


@_compiled
def moments(rows):
    """Mean, standard deviation, skewness and kurtosis of each row.

    Parameters
    ----------
    rows : float32 array, shape (d, n)

    Returns
    -------
    float32 array, shape (d, 4)
    """
    out = np.empty((len(rows), 4), dtype=np.float32)
    count = rows.shape[1]
    for d in range(len(rows)):
        total = np.float32(0)
        for value in rows[d]:
            total += value
        mean = total / np.float32(count)
        second, third, fourth = np.float32(0), np.float32(0), np.float32(0)
        for value in rows[d]:
            off = value - mean
            second += off**2
            third += off**3
            fourth += off**4
        std = math.sqrt(second / count)
        safe = max(std, 1e-5)
        out[d, 0], out[d, 1] = mean, std
        out[d, 2], out[d, 3] = third / count / safe**3, fourth / count / safe**4
    return out
