"""Decode recordings to samples.

In: a file that libsndfile reads (WAV, FLAC, AIFF, Ogg, MP3 ...). Out: float32 mono samples at 16 kHz, or an
:class:`emotion.errors.AudioError` that says why the recording cannot be used.
"""
