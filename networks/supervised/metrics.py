"""What predictions are worth: scikit-learn's, sacrebleu's and jiwer's numbers, and calibration."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from networks.supervised.data import IGNORE


def classification(chances: np.ndarray, target: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, precision, recall and F1 (macro and per class), confusion and calibration of known targets.

    chances [N, classes]; macro means are over classes that occur among targets or predictions, as scikit-learn's.
    """
    from sklearn import metrics

    known = target != IGNORE
    chances, target = chances[known], target[known]
    predicted = chances.argmax(axis=1)
    every = np.arange(len(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = metrics.precision_recall_fscore_support(target, predicted, average="macro", zero_division=0)
        each = metrics.precision_recall_fscore_support(target, predicted, labels=every, zero_division=0)
    per_class = {
        str(name): {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
        for name, p, r, f, n in zip(names, *each, strict=True)
    }
    return {
        "accuracy": float(np.mean(predicted == target)) if len(target) else float("nan"),
        "precision": float(macro[0]), "recall": float(macro[1]), "f1": float(macro[2]),
        "top5": float(np.mean((np.argsort(-chances, axis=1)[:, :5] == target[:, None]).any(axis=1))),
        "ece": calibration_error(chances, target), "examples": len(target), "per_class": per_class,
        "confusion": metrics.confusion_matrix(target, predicted, labels=every).tolist(),
    }  # fmt: skip


def calibration_error(chances: np.ndarray, target: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): how far confidence is from being right, over bins of confidence."""
    if not len(target):
        return float("nan")
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == target
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == b].mean() - right[which == b].mean()) * np.mean(which == b) for b in np.unique(which)
    ]
    return float(sum(gaps))


def majority(train: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return accuracy and macro F1 of always guessing the commonest class of the training examples."""
    from sklearn import metrics

    common = np.bincount(train[train != IGNORE]).argmax()
    known = target[target != IGNORE]
    guess = np.full(len(known), common)
    f1 = metrics.f1_score(known, guess, average="macro", zero_division=0)
    return {"accuracy": float(np.mean(known == common)), "f1": float(f1)}


def regression(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return R2 and the mean absolute error."""
    residual = float(np.sum((predicted - target) ** 2))
    total = float(np.sum((target - target.mean()) ** 2))
    r2 = 1.0 - residual / total if total else float("nan")
    return {"r2": r2, "mae": float(np.mean(np.abs(predicted - target))), "examples": len(target)}


def words(predicted: Sequence[str], target: Sequence[str]) -> dict[str, float]:
    """Return word and letter error rates, and the share of texts that are right as a whole."""
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
