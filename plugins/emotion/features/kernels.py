"""Inner loops of the acoustic recipe, compiled when first called and cached on disk.

A loop stands here, in place of array operations, where the values of a frame are used several times: each value is then
read once, while it is in the processor's cache, and nothing is allocated in between.

The compiler may reorder sums (``reassoc``), so that they run in vector registers. It fixes the order when it compiles a
loop, so results are the same, bit for bit, on one machine and on any number of threads. Those of BLAS are not.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_compiled = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "arcp", "contract"})
_inlined = numba.njit(inline="always", error_model="numpy", fastmath={"reassoc", "nsz", "arcp", "contract"})
"""For a step that holds sums: it is compiled as a part of its caller. On its own, it would add in another order."""


@_compiled
def project(rows: np.ndarray, weights: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
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
        # four rows share each weight that is loaded; past the end, the last row stands in
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
def square(spectrum: np.ndarray, power: np.ndarray) -> None:
    """Squared moduli of complex numbers, written into ``power``.

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


@numba.njit(cache=True, error_model="numpy")  # the order of the operations is that of scipy.signal.sosfilt
def halve_and_filter(samples: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Every other sample, smoothed with the weights 1/4, 1/2, 1/4, through a filter of two second-order sections.

    Parameters
    ----------
    samples : float32 array, shape (2 n,)
        Before and after them lie zeros.
    sections : float64 array, shape (2, 6)
        As ``scipy.signal.sosfilt`` takes them.

    Returns
    -------
    float64 array, shape (n,)
    """
    n = len(samples) // 2
    out = np.empty(n)
    b0, b1, b2, _, a1, a2 = sections[0]
    d0, d1, d2, _, c1, c2 = sections[1]
    first_1 = first_2 = second_1 = second_2 = 0.0
    before = np.float32(0)
    for i in range(n):
        after = samples[2 * i + 1]
        value = float((before + np.float32(2) * samples[2 * i] + after) / np.float32(4))
        before = after
        middle = b0 * value + first_1
        first_1 = b1 * value - a1 * middle + first_2
        first_2 = b2 * value - a2 * middle
        out[i] = d0 * middle + second_1
        second_1 = d1 * middle - c1 * out[i] + second_2
        second_2 = d2 * middle - c2 * out[i]
    return out


@_compiled
def shapes(power: np.ndarray, power_db: np.ndarray, frequency: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Shape of each frame's magnitude spectrum, seen as a distribution over frequency.

    Parameters
    ----------
    power, power_db : float32 array, shape (n, bins)
    frequency : float32 array, shape (bins,)
        In kHz, evenly spaced from 0.
    shares : float32 array, shape (k,)
        Of the magnitude below each rolloff, ascending.

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
        second, third, fourth = _sums_about(mean, frequency, row)
        variance = max(second / safe, np.float32(1e-6))
        out[0, i], out[1, i] = mean, math.sqrt(variance)
        out[2, i], out[3, i] = third / safe / variance**1.5, fourth / safe / variance**2
        _rolloffs(row, total, frequency, shares, out[4 : 4 + len(shares), i])
        out[-3, i] = level / bins - 10 * math.log10(max(energy / bins, 1e-10))
        # of p = magnitude / total, and log2 magnitude = power_db / (20 log10 2)
        out[-2, i] = math.log2(safe) - information / safe / (20 * math.log10(2.0))
        # |a − b|² of unit vectors is 2 − 2 a·b
        distance = max(2 - 2 * common / math.sqrt(energy * energy_before), 0.0) if i else 0.0
        out[-1, i] = math.sqrt(distance)  # type: ignore[arg-type]  # mypy has no type for max() of float32 and float
        energy_before = energy
    return out


@_inlined
def _sums_about(mean: np.float32, frequency: np.ndarray, row: np.ndarray) -> tuple[np.float32, np.float32, np.float32]:
    """Sums of the second, third and fourth power of the distance from the mean, weighted by the row."""
    second = third = fourth = np.float32(0)
    for k in range(len(row)):
        distance = frequency[k] - mean
        square = distance * distance * row[k]
        second += square
        third += square * distance
        fourth += square * distance * distance
    return second, third, fourth


@_compiled
def _rolloffs(row: np.ndarray, total: np.float32, frequency: np.ndarray, shares: np.ndarray, out: np.ndarray) -> None:
    """Write the frequencies below which each share of the row's total lies into ``out``."""
    k, below = 0, row[0]
    for s in range(len(shares)):
        while below < shares[s] * total and k < len(row) - 1:
            k += 1
            below += row[k]
        out[s] = frequency[k]


@_compiled
def pitch_candidates(
    autocorrelation: np.ndarray, window: np.ndarray, cost: np.ndarray, least: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The highest peaks above 0.2 of each frame's normalized autocorrelation.

    Parameters
    ----------
    autocorrelation : float32 array, shape (n, lags)
    window : float32 array, shape (longest + 2,)
        The window's autocorrelation, by which the frame's is divided.
    cost : float32 array, shape (longest + 1,)
        What is subtracted from a peak's height at each lag when peaks are compared.
    least : int
        Shortest lag searched; the longest is the last but one of ``window``.
    count : int
        Number of peaks that are kept.

    Returns
    -------
    lag, height : float32 array, shape (n, count)
        Of each peak, by a parabola through its three points; 0 where a frame has fewer peaks.
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
def pitch_path(strength: np.ndarray, octave: np.ndarray, jump_cost: float, switch_cost: float) -> np.ndarray:
    """Viterbi path: the candidate of each frame that maximizes the sum of strengths minus costs.

    Parameters
    ----------
    strength : float64 array, shape (n, 1 + k)
        Of the unvoiced state, and of k candidates.
    octave : float64 array, shape (n, k)
        Base-2 logarithms of the candidates' frequencies.
    jump_cost : float
        Cost of a jump by one octave between neighbouring frames.
    switch_cost : float
        Cost of a change between voiced and unvoiced.

    Returns
    -------
    int array, shape (n,)
        0 where unvoiced, else 1 + the index of the candidate.
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
def harmonics(power_db: np.ndarray, f0: np.ndarray, count: int) -> np.ndarray:
    """Level of each frame's first harmonics: the highest of the three bins around each harmonic.

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
def levinson(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear prediction by Levinson's recursion.

    Parameters
    ----------
    r : float64 array, shape (order + 1, n)
        Autocorrelations of n frames.

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
        for i in range(step // 2 + 1):  # from both ends, so that both values of a pair are replaced together
            for t in range(n):
                low, high = predictor[i, t], predictor[step - i, t]
                predictor[i, t] = low + k[t] * high
                if i < step - i:
                    predictor[step - i, t] = high + k[t] * low
    return reflections, predictor


@_compiled
def formants(predictor: np.ndarray, cosines: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first peaks of each frame's linear-prediction envelope 1 / |A|².

    Parameters
    ----------
    predictor : float64 array, shape (order + 1, n)
    cosines : float64 array, shape (order + 1, bins)
        Turn the predictor's autocorrelation into |A|² at each bin.
    count : int
        Number of peaks.

    Returns
    -------
    position, level : float32 array, shape (count, n)
        In bins (by a parabola through three points in dB) and in dB. Where a frame has fewer peaks: the last bin but
        one, and the level there.
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
def _inverse_db(power: float) -> float:
    return -10 * math.log10(max(power, 1e-12))


@_compiled
def moments(rows: np.ndarray) -> np.ndarray:
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
def runs(mask: np.ndarray, least: int) -> tuple[int, float, float]:
    """Number, mean length and standard deviation of the lengths of runs of True; 0 where there is none.

    Parameters
    ----------
    mask : bool array, shape (n,)
    least : int
        A shorter run is not counted.
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
