"""Turn samples into one named vector per clip, and the clips of a dataset into its feature table.

In: float32 mono samples at 16 kHz. Out: a float32 vector in the order of :func:`feature_names`, and Parquet tables
below ``features/<recipe>/`` that hold it under the clip's sha256.

>>> import numpy as np
>>> samples = np.sin(np.arange(16_000) / 10).astype(np.float32)
>>> extract(samples).shape == (len(feature_names()),)
True
"""

import importlib
import os

from emotion.errors import ConfigurationError
from emotion.features.augmentation import VARIANTS
from emotion.features.descriptors import VIEWS
from emotion.features.recipe import RECIPE_VERSION, describe, extract, feature_names, recipe_version, register, views
from emotion.features.spectrum import SAMPLE_RATE

__all__ = [
    "RECIPE_VERSION",
    "SAMPLE_RATE",
    "VARIANTS",
    "VIEWS",
    "describe",
    "extract",
    "feature_names",
    "recipe_version",
    "register",
    "views",
]

# modules of the user, which register features of their own
for _module in filter(None, map(str.strip, os.environ.get("EMOTION_FEATURES", "").split(","))):
    try:
        importlib.import_module(_module)
    except (ImportError, TypeError) as _error:  # TypeError: a relative name
        raise ConfigurationError(
            f"EMOTION_FEATURES names {_module!r}, which cannot be imported ({_error}); expected modules that Python "
            "finds, separated by commas: correct the name, or add their folder to PYTHONPATH"
        ) from _error
