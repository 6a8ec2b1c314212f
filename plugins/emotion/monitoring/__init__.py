"""Is a batch still the kind of audio that the model was trained on?

In: the training table (once, when a version is registered), then a batch's features and predictions. Out: a
reference, kept with the version, and a verdict on the batch: ok, watch or alarm.
"""
