"""Loads the compiled loops when it is imported: for a fork server, whose workers then have them."""

import numpy as np

from emotion import features

features.extract(np.ones(features.SAMPLE_RATE, dtype=np.float32))
