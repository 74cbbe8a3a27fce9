"""Scores of classifiers: GLUE's metrics, means with spread over seeds, and a plain n-gram judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

MetricKind = Literal["accuracy", "matthews", "accuracy-f1", "correlation"]


class Spread(NamedTuple):
    """A score over several seeds."""

    mean: float
    deviation: float  # sample standard deviation, NaN for one seed
    seeds: int

    def __str__(self) -> str:
        if self.seeds < 2:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.deviation:.3f}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of ``values``."""
    if not len(values):
        raise ValueError("there is no score to average")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation, len(values))


def task_scores(kind: MetricKind, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """GLUE's scores by scikit-learn and SciPy; ``score`` is the one that a table shows.

    Args:
        kind: ``accuracy``; ``matthews`` (CoLA); ``accuracy-f1``, also their mean (MRPC, QQP);
            ``correlation``, of Pearson, Spearman and their mean (STS-B).
        predictions: (N,) class numbers, or numbers for ``correlation``.
        labels: (N,) alike.
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if len(predictions) != len(labels) or not len(labels):
        raise ValueError(f"{len(predictions)} predictions cannot be held against {len(labels)}")
    if kind == "matthews":
        value = float(matthews_corrcoef(labels, predictions))
        return {"matthews": value, "score": value}
    if kind == "correlation":
        constant = np.ptp(predictions) == 0 or np.ptp(labels) == 0  # has no correlation
        pearson = 0.0 if constant else float(pearsonr(predictions, labels)[0])
        spearman = 0.0 if constant else float(spearmanr(predictions, labels)[0])
        return {"pearson": pearson, "spearman": spearman, "score": (pearson + spearman) / 2}
    accuracy = float(accuracy_score(labels, predictions))
    if kind == "accuracy":
        return {"accuracy": accuracy, "score": accuracy}
    f1 = float(f1_score(labels, predictions, zero_division=0))
    return {"accuracy": accuracy, "f1": f1, "score": (accuracy + f1) / 2}


class NgramJudge:
    """Logistic regression on words and word pairs: a classifier trained apart from any model.

    Args:
        texts: training texts.
        labels: their classes, 0 .. C - 1, each present.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int]) -> None:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if len(set(labels)) < 2:
            raise ValueError("a judge needs texts of at least two classes")
        self._pipeline: Any = make_pipeline(
            CountVectorizer(ngram_range=(1, 2), token_pattern=r"[^\s]+", binary=True),
            LogisticRegression(max_iter=1000),
        )
        self._pipeline.fit(list(texts), list(labels))

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C) in [0, 1]."""
        return self._pipeline.predict_proba(list(texts))

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Classes (N,)."""
        return self._pipeline.predict(list(texts))
