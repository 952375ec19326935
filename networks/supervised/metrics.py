"""Metrics of predictions, from scikit-learn, sacrebleu and jiwer, and the calibration error."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from networks.supervised.data import IGNORE


def classification(probabilities: np.ndarray, target: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, precision, recall, F1 (macro and per class), confusion matrix and calibration error.

    probabilities [N, classes], target [N]; unknown targets are ignored. Macro means cover the classes that occur among
    targets or predictions, as in scikit-learn.
    """
    from sklearn import metrics

    known = target != IGNORE
    probabilities, target = probabilities[known], target[known]
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(len(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = metrics.precision_recall_fscore_support(target, predicted, average="macro", zero_division=0)
        each = metrics.precision_recall_fscore_support(target, predicted, labels=classes, zero_division=0)
    per_class = {
        str(name): {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
        for name, p, r, f, n in zip(names, *each, strict=True)
    }
    return {
        "accuracy": float(np.mean(predicted == target)) if len(target) else float("nan"),
        "precision": float(macro[0]), "recall": float(macro[1]), "f1": float(macro[2]),
        "top5": float(np.mean((np.argsort(-probabilities, axis=1)[:, :5] == target[:, None]).any(axis=1))),
        "ece": calibration_error(probabilities, target), "examples": len(target), "per_class": per_class,
        "confusion": metrics.confusion_matrix(target, predicted, labels=classes).tolist(),
    }  # fmt: skip


def calibration_error(probabilities: np.ndarray, target: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): |confidence - accuracy|, averaged over bins of confidence."""
    if not len(target):
        return float("nan")
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == target
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[bin_of == b].mean() - correct[bin_of == b].mean()) * np.mean(bin_of == b)
        for b in np.unique(bin_of)
    ]
    return float(sum(gaps))


def majority_baseline(train: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return accuracy and macro F1 of always predicting the most common training class."""
    from sklearn import metrics

    majority = np.bincount(train[train != IGNORE]).argmax()
    known = target[target != IGNORE]
    predicted = np.full(len(known), majority)
    f1 = metrics.f1_score(known, predicted, average="macro", zero_division=0)
    return {"accuracy": float(np.mean(known == majority)), "f1": float(f1)}


def regression(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return R2 and the mean absolute error of [N] values."""
    residual = float(np.sum((predicted - target) ** 2))
    total = float(np.sum((target - target.mean()) ** 2))
    r2 = 1.0 - residual / total if total else float("nan")
    return {"r2": r2, "mae": float(np.mean(np.abs(predicted - target))), "examples": len(target)}


def error_rates(predicted: Sequence[str], target: Sequence[str]) -> dict[str, float]:
    """Return word and character error rates, and the share of exact matches."""
    import jiwer

    return {
        "wer": float(jiwer.wer(list(target), list(predicted))), "cer": float(jiwer.cer(list(target), list(predicted))),
        "exact": float(np.mean([a == b for a, b in zip(predicted, target, strict=True)])), "examples": len(target),
    }  # fmt: skip


def translation(predicted: Sequence[str], target: Sequence[str], chinese: bool = False) -> dict[str, float]:
    """Return BLEU (sacrebleu's 13a or zh tokens), chrF and the share of exact matches."""
    import sacrebleu

    bleu = sacrebleu.corpus_bleu(list(predicted), [list(target)], tokenize="zh" if chinese else "13a")
    chrf = sacrebleu.corpus_chrf(list(predicted), [list(target)])
    exact = float(np.mean([a == b for a, b in zip(predicted, target, strict=True)]))
    return {"bleu": float(bleu.score), "chrf": float(chrf.score), "exact": exact, "examples": len(target)}
