"""How good a model is: folds, scores and the choice of one family.

In: labels, speakers and held-out probabilities. Out: row numbers of folds, dictionaries of scores, the name of the
selected family. Nothing here fits a model; scikit-learn's metrics and splitters do the work.
"""
