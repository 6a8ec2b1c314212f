"""What an answer is made of: SHAP values per named feature, their importance, plots.

In: a fitted classifier and rows of features. Out: contributions that add up to the model's output, tables and PNGs.
"""
