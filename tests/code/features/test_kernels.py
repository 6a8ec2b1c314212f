"""The recipe's inner loops against numpy, scipy and signals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from emotion import features
from emotion.features import kernels

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 11])
def test_project_is_a_matrix_product(n):
    rows = RANDOM.normal(size=(n, 50)).astype(np.float32)
    weights = np.zeros((3, 50), dtype=np.float32)
    first, last = np.array([0, 7, 49]), np.array([50, 20, 50])
    for weight, start, stop in zip(weights, first, last, strict=True):
        weight[start:stop] = RANDOM.normal(size=stop - start)
    np.testing.assert_allclose(kernels.project(rows, weights, first, last), weights @ rows.T, atol=1e-5)


def test_moments_are_those_of_scipy():
    rows = RANDOM.gamma(2, size=(5, 300)).astype(np.float32)
    expected = [rows.mean(axis=1), rows.std(axis=1), scipy.stats.skew(rows, axis=1)]
    expected.append(scipy.stats.kurtosis(rows, axis=1, fisher=False))
    np.testing.assert_allclose(kernels.moments(rows), np.stack(expected, axis=1), rtol=1e-4)
    assert kernels.moments(np.full((1, 9), 2, dtype=np.float32)).tolist() == [[2, 0, 0, 0]]


def test_levinson_solves_the_normal_equations():
    sound = RANDOM.normal(size=(4, 200))
    r = np.array([[row[lag:] @ row[: len(row) - lag] for row in sound] for lag in range(9)])
    reflections, predictor = kernels.levinson(r)
    for n in range(4):
        expected = scipy.linalg.solve_toeplitz(r[:-1, n], -r[1:, n])
        np.testing.assert_allclose(predictor[:, n], [1, *expected], atol=1e-10)
    np.testing.assert_allclose(reflections[-1], predictor[-1])


def test_formants_of_known_resonances():
    wanted = np.array([0.6, 1.5, 2.6])  # kHz
    poles = 0.97 * np.exp(2j * np.pi * 1000 * wanted / features.SAMPLE_RATE)
    predictor = np.poly([*poles, *poles.conj()]).real
    bins = np.arange(1, 89)  # of 62.5 Hz
    cosines = 2 * np.cos(np.outer(np.arange(7), 2 * np.pi * bins / 256))
    cosines[0] = 1
    both = np.stack([predictor, np.eye(7)[0]], axis=1)  # and a flat envelope, which has no peak
    position, level = kernels.formants(both, cosines, 3)
    np.testing.assert_allclose((position[:, 0] + bins[0]) * 0.0625, wanted, atol=0.03)
    at = np.exp(-2j * np.pi * 1000 * wanted / features.SAMPLE_RATE)
    np.testing.assert_allclose(level[:, 0], -20 * np.log10(np.abs(np.polyval(predictor[::-1], at))), atol=0.5)
    assert position[:, 1].tolist() == [86] * 3 and level[:, 1] == pytest.approx(0)


def test_runs():
    mask = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1, 1], dtype=bool)
    assert kernels.runs(mask, 1) == pytest.approx((3, 7 / 3, np.std([2, 1, 4])))
    assert kernels.runs(mask, 2) == pytest.approx((2, 3, 1))
    assert kernels.runs(~mask, 3) == (0, 0, 0)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 101])
def test_pitch_path_is_the_best_of_viterbi(n):
    random = np.random.default_rng(n)
    strength, octave = random.normal(size=(n, 4)), random.normal(size=(n, 3))
    total, came = strength[0], []
    for frame in range(1, n):
        cost = np.full((4, 4), 0.14)
        cost[0, 0] = 0
        cost[1:, 1:] = 0.35 * np.abs(octave[frame][:, None] - octave[frame - 1])
        paths = total - cost
        came.append(paths.argmax(axis=1))
        total = paths.max(axis=1) + strength[frame]
    expected = [int(total.argmax())]
    for back in reversed(came):
        expected.append(int(back[expected[-1]]))
    np.testing.assert_array_equal(kernels.pitch_path(strength, octave, 0.35, 0.14), expected[::-1])


def test_harmonics_are_the_peaks_about_multiples_of_f0():
    spectrum = RANDOM.normal(size=(2, 60)).astype(np.float32)
    expected = [
        [row[round(k * f0) - 1 :][:3].max() for row, f0 in zip(spectrum, (5.3, 9.8), strict=True)] for k in range(1, 6)
    ]
    np.testing.assert_array_equal(kernels.harmonics(spectrum, np.array([5.3, 9.8], dtype=np.float32), 5), expected)
    assert kernels.harmonics(spectrum, np.array([0.1, 50], dtype=np.float32), 2)[1, 1] == spectrum[1, -3:].max()
