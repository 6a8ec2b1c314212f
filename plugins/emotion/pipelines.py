"""The scikit-learn pipeline of each family."""

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler


def build(family: str, *, seed: int) -> Pipeline:
    """An unfitted pipeline ``scaler`` → ``classifier`` for a family of :data:`emotion.labels.FAMILIES`."""
    classifier = {
        "logistic_regression": lambda: LogisticRegression(C=0.01, max_iter=2000),
        "random_forest": lambda: RandomForestClassifier(
            n_estimators=200, min_samples_leaf=2, max_features="sqrt", random_state=seed, n_jobs=1
        ),
        "gradient_boosting": lambda: GradientBoostingClassifier(
            n_estimators=40, max_depth=3, learning_rate=0.15, subsample=0.7, max_features="sqrt", random_state=seed
        ),
    }[family]()
    return Pipeline([("scaler", StandardScaler()), ("classifier", classifier)])
