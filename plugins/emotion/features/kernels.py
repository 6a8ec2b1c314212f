"""Inner loops of the acoustic recipe, compiled when first called and cached on disk.

Loops stand here, and not array operations in :mod:`emotion.features.recipe`, where a frame's values are used several times:
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
    end = len(rows) - 1
    for n in range(0, len(rows), 4):
        # four rows share each weight that is loaded; after the last row it is taken again
        i, j, k = min(n + 1, end), min(n + 2, end), min(n + 3, end)
        for w in range(len(weights)):
            part = slice(first[w], last[w])
            weight, p, q, r, s = weights[w, part], rows[n, part], rows[i, part], rows[j, part], rows[k, part]
            total_p = total_q = total_r = total_s = np.float32(0)
            for m in range(len(weight)):
                total_p += weight[m] * p[m]
                total_q += weight[m] * q[m]
                total_r += weight[m] * r[m]
                total_s += weight[m] * s[m]
            out[w, n], out[w, i], out[w, j], out[w, k] = total_p, total_q, total_r, total_s
    return out


@_compiled
def square(spectrum, power):
    """Squared moduli.

    Parameters
    ----------
    spectrum : float32 array, shape (n, 2 m)
        Real and imaginary part of each bin.
    power : float32 array, shape (n, m)
        Takes the result.
    """
    for i in range(power.shape[0]):
        for k in range(power.shape[1]):
            power[i, k] = spectrum[i, 2 * k] ** 2 + spectrum[i, 2 * k + 1] ** 2


@_compiled
def shapes(power, power_db, frequency, shares):
    """What a frame's magnitude spectrum looks like as a distribution over frequency.

    Parameters
    ----------
    power, power_db : float32 array, shape (n, bins)
    frequency : float32 array, shape (bins,)
        In kHz, evenly spaced from 0.
    shares : float32 array, shape (k,)
        Of rolloffs, ascending.

    Returns
    -------
    float32 array, shape (7 + k, n)
        Centroid, bandwidth (kHz), skewness, kurtosis, rolloffs (kHz), flatness (dB), entropy (bits), and flux: the
        distance of the unit spectrum from that of the frame before, 0 at the first.
    """
    n, bins = power.shape
    out = np.empty((7 + len(shares), n), dtype=np.float32)
    row, before = np.zeros(bins, dtype=np.float32), np.zeros(bins, dtype=np.float32)
    energy_before = np.float32(0)
    for i in range(n):
        row, before = before, row
        powers, decibels = power[i], power_db[i]
        total = first = energy = level = information = common = np.float32(0)
        for k in range(bins):
            row[k] = math.sqrt(powers[k])
            total += row[k]
            first += row[k] * frequency[k]
            energy += powers[k]
            level += decibels[k]
            information += row[k] * decibels[k]
            common += row[k] * before[k]
        safe, energy = max(total, np.float32(1e-8)), max(energy, np.float32(1e-12))
        mean = first / safe
        second = third = fourth = np.float32(0)
        for k in range(bins):
            off = frequency[k] - mean
            square = off * off * row[k]
            second += square
            third += square * off
            fourth += square * off * off
        variance = max(second / safe, np.float32(1e-6))
        out[0, i], out[1, i] = mean, math.sqrt(variance)
        out[2, i], out[3, i] = third / safe / variance**1.5, fourth / safe / variance**2
        k, below = 0, row[0]
        for s in range(len(shares)):
            while below < shares[s] * total and k < bins - 1:
                k += 1
                below += row[k]
            out[4 + s, i] = frequency[k]
        out[-3, i] = level / bins - 10 * math.log10(max(energy / bins, 1e-10))
        # of p = magnitude / total, and log2 magnitude = power_db / (20 log10 2)
        out[-2, i] = math.log2(safe) - information / safe / (20 * math.log10(2.0))
        # |a − b|² of unit vectors is 2 − 2 a·b
        out[-1, i] = math.sqrt(max(2 - 2 * common / math.sqrt(energy * energy_before), 0.0)) if i else 0.0
        energy_before = energy
    return out


@_compiled
def pitch_candidates(autocorrelation, window, cost, least, count):
    """Highest peaks of each frame's normalized autocorrelation, of those above 0.2.

    Parameters
    ----------
    autocorrelation : float32 array, shape (n, lags)
    window : float32 array, shape (longest + 2,)
        The window's autocorrelation, which divides the frame's.
    cost : float32 array, shape (longest + 1,)
        What is taken off a peak's height at each lag when peaks are compared.
    least : int
        Shortest lag searched; the longest is the last but one of ``window``.
    count : int
        Peaks kept.

    Returns
    -------
    lag, height : float32 array, shape (n, count)
        Of each peak, by a parabola through its three points; 0 where a frame has fewer.
    """
    n, longest = len(autocorrelation), len(window) - 2
    lag, height = np.zeros((n, count), dtype=np.float32), np.zeros((n, count), dtype=np.float32)
    normal = np.empty(len(window), dtype=np.float32)
    scores = np.empty(count, dtype=np.float32)
    for i in range(n):
        scale = 1 / max(autocorrelation[i, 0], np.float32(1e-12))
        for k in range(len(window)):
            normal[k] = autocorrelation[i, k] * scale / window[k]
        scores[:] = -np.inf
        for k in range(least, longest + 1):
            a, b, c = normal[k - 1], normal[k], normal[k + 1]
            if b <= np.float32(0.2) or b <= a or b < c:
                continue
            worst = scores.argmin()
            if b - cost[k] > scores[worst]:
                scores[worst] = b - cost[k]
                shift = np.float32(0.5) * (a - c) / min(a - 2 * b + c, np.float32(-1e-6))
                lag[i, worst] = k + shift
                height[i, worst] = min(max(b - np.float32(0.25) * (a - c) * shift, np.float32(0)), np.float32(1))
    return lag, height


@_compiled
def pitch_path(strength, octave, jump_cost, switch_cost):
    """Viterbi's path: the candidate at each frame that makes the sum of strengths less costs greatest.

    Parameters
    ----------
    strength : float64 array, shape (n, 1 + k)
        Of being unvoiced, and of k candidates.
    octave : float64 array, shape (n, k)
        Of the candidates' frequencies.
    jump_cost : float
        Of an octave between neighbouring frames.
    switch_cost : float
        Of a change between voiced and unvoiced.

    Returns
    -------
    int array, shape (n,)
        0 where unvoiced, else one more than the candidate's number.
    """
    n, states = strength.shape
    came, total = np.zeros((n, states), dtype=np.int64), strength.copy()
    for i in range(1, n):
        for to in range(states):
            best, most = 0, -np.inf
            for start in range(states):
                if to and start:
                    cost = jump_cost * abs(octave[i, to - 1] - octave[i - 1, start - 1])
                else:
                    cost = switch_cost if to or start else 0.0
                if total[i - 1, start] - cost > most:
                    best, most = start, total[i - 1, start] - cost
            came[i, to] = best
            total[i, to] += most
    path = np.empty(n, dtype=np.int64)
    path[-1] = total[-1].argmax()
    for i in range(n - 1, 0, -1):
        path[i - 1] = came[i, path[i]]
    return path


@_compiled
def harmonics(power_db, f0, count):
    """Level of each frame's first harmonics: the highest of the three bins about each.

    Parameters
    ----------
    power_db : float32 array, shape (n, bins)
    f0 : float32 array, shape (n,)
        In bins.
    count : int

    Returns
    -------
    float32 array, shape (count, n)
    """
    out = np.empty((count, len(f0)), dtype=np.float32)
    for i in range(len(f0)):
        for number in range(count):
            k = min(max(int(round((number + 1) * f0[i])), 1), power_db.shape[1] - 2)
            out[number, i] = max(power_db[i, k - 1], power_db[i, k], power_db[i, k + 1])
    return out


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
        a = predictor[:, i].copy()
        for lag in range(order + 1):
            product = 0.0
            for j in range(order + 1 - lag):
                product += a[j] * a[j + lag]
            for k in range(bins):
                row[k] += product * cosines[lag, k]
        number = 0
        for k in range(1, bins - 1):
            if number < count and row[k] < row[k - 1] and row[k] <= row[k + 1]:
                left, here, right = _inverse_db(row[k - 1]), _inverse_db(row[k]), _inverse_db(row[k + 1])
                position[number, i] = k + 0.5 * (left - right) / min(left - 2 * here + right, -1e-6)
                level[number, i] = here
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


@_compiled
def runs(mask, least):
    """Number, mean length and standard deviation of the lengths of runs of True; 0 where there is none.

    Parameters
    ----------
    mask : bool array, shape (n,)
    least : int
        A shorter run is left out.
    """
    count, total, squares, length = 0, 0, 0, 0
    for i in range(len(mask) + 1):
        if i < len(mask) and mask[i]:
            length += 1
            continue
        if length >= least:
            count, total, squares = count + 1, total + length, squares + length**2
        length = 0
    mean = total / max(count, 1)
    return count, mean, math.sqrt(max(squares / max(count, 1) - mean**2, 0.0))
