"""Runs each compiled loop once, as an answer does, so that the image holds them all and no task compiles them."""

import matplotlib.pyplot  # noqa: F401  makes its cache of fonts
import numpy as np

from emotion import features
from emotion.explanation.values import Explainer
from emotion.models import fitted
from emotion.models.bundle import dumps
from emotion.models.classifier import Classifier

tone = np.sin(2 * np.pi * 200 / features.SAMPLE_RATE * np.arange(features.SAMPLE_RATE), dtype=np.float32)
features.extract(tone + np.random.default_rng(0).normal(0, 0.01, len(tone)).astype(np.float32))
rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
for family in ("random_forest", "gradient_boosting"):
    model = Classifier.fit(family, rows, np.resize(["angry", "calm", "sad"], 64), seed=0)
    answering = fitted.read(dumps(model))
    answering.predict_proba(rows)
    Explainer(answering, rows).explain(rows[:2])
