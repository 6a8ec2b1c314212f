"""Fits one model family on every fold of every protocol, calibrates it, and fits the final models.

In: the run's table (labels, speakers) and its features. Out: classifiers, held-out predictions, timings.
"""
