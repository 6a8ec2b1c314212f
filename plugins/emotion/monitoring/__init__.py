"""Drift: does a batch of new audio differ from the training set?

In: the training table (once, when a version is registered), then a batch's features and predictions. Out: a
reference, kept with the version, and a verdict on the batch: ok, watch or alarm.
"""
