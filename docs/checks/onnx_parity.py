"""How far the probabilities of a model as ONNX lie from the library's: every family and mode of the champion's version.

    EMOTION_HOME=… python docs/checks/onnx_parity.py [ROWS]

It takes the stored features of the training clips and their copies, at most ROWS (6000). Modes other than plain get
them z-scored by the mean and deviation of training. The packages of requirements-onnx.txt are needed.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

from emotion import features
from emotion.features import feature_table
from emotion.models import registry
from emotion.models.adaptation import normalize
from emotion.models.bundle import models_of
from emotion.models.onnx_export import to_onnx
from emotion.settings import Settings
from emotion.store import Store


def main() -> None:
    store = Store(Settings.from_environment().home)
    champion = registry.champion(store)
    if champion is None:
        raise SystemExit("there is no champion in EMOTION_HOME")
    entry = registry.entry(store, champion["version"])
    stored = feature_table.stored(store).head(int(sys.argv[1]) if len(sys.argv) > 1 else 6000)
    values = stored[list(features.feature_names())].to_numpy(dtype=np.float32)
    for family in entry["scores"]:
        bundle = registry.load(store, entry, registry.bundle_name(family), recipe=features.recipe_version())
        for mode, model in models_of(bundle).items():
            rows = values if mode == "plain" else normalize(values, bundle["training"])
            session = onnxruntime.InferenceSession(
                to_onnx(bundle, mode, version=entry["version"], recipe=entry["recipe"])
            )
            probabilities, labels = session.run(None, {"features": rows})
            expected = model.predict_proba(rows)
            difference = np.abs(probabilities - expected).max(axis=1)
            beyond = difference > 1e-5
            print(
                f"{family}, {mode}: {len(rows)} rows, largest difference {difference[~beyond].max():.1e}; beyond 1e-5: "
                f"{beyond.sum()} rows, at most {difference.max():.1e}; same label: "
                f"{(labels == np.array(model.label_set)[expected.argmax(axis=1)]).mean():.2%}"
            )


if __name__ == "__main__":
    main()
