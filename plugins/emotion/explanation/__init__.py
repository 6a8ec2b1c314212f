"""Which features an answer is made of: SHAP values per named feature, their importance, and plots.

In: a fitted classifier and rows of features. Out: contributions that add up to the output of the model, tables and
PNGs.
"""
