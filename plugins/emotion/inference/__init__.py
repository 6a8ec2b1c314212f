"""Recordings to answers, with a trained model.

In: a file, an array, several files or a stream. Out: ``{"emotion", "confidence", "probabilities", ...}``.

>>> from emotion.inference import CustomEmotionModel
>>> CustomEmotionModel("model.pkl").predict_emotion_from_file("audio.wav")  # doctest: +SKIP
{'emotion': 'angry', 'confidence': 0.83, ...}
"""

from emotion.inference.model import CHAMPION, CustomEmotionModel

__all__ = ["CHAMPION", "CustomEmotionModel"]
