"""Answers of a trained model for recordings: a file, an array of samples, several files, or a stream.

In: recordings and a model. Out: ``{"emotion", "confidence", "probabilities", ...}``::

    CustomEmotionModel("random_forest_emotion_model.pkl").predict_emotion_from_file("audio.wav")
    # {"emotion": "angry", "confidence": 0.83, ...}
"""

from emotion.inference.bundles import CHAMPION
from emotion.inference.model import CustomEmotionModel

__all__ = ["CHAMPION", "CustomEmotionModel"]
