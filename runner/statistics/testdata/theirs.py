"""Statistics of the samples on standard input, by scipy.

Reads cases with numbers of two groups and means of resampled ones, and writes what
scipy_test.go compares: intervals of means, paired and Welch's tests, effects, and
BCa intervals of the bootstrap distributions that it was given.
"""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
from scipy import special, stats


def interval(i):
    return [float(i.low), float(i.high)]


def bca(samples, means):
    """The BCa interval of a distribution that was drawn elsewhere."""
    known = SimpleNamespace(bootstrap_distribution=np.asarray(means))
    if len(samples) == 1:
        mean = np.mean
    else:
        mean = lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis)
    result = stats.bootstrap(samples, mean, n_resamples=0, vectorized=True, method="BCa", bootstrap_result=known)
    return interval(result.confidence_interval)


def redrawn(x):
    """The BCa interval of a distribution that scipy draws."""
    result = stats.bootstrap([x], np.mean, vectorized=True, method="BCa", rng=np.random.default_rng(1))
    return interval(result.confidence_interval)


def of(x):
    test = stats.ttest_1samp(x, 0)
    return {"mean": np.mean(x), "std": np.std(x, ddof=1), "interval": interval(test.confidence_interval(0.95))}


def paired(a, b):
    d = np.subtract(a, b)
    test = stats.ttest_rel(a, b)
    return {"interval": interval(test.confidence_interval(0.95)), "p": test.pvalue, "effect": np.mean(d) / np.std(d, ddof=1)}


def welch(a, b):
    test = stats.ttest_ind(a, b, equal_var=False)
    m = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * np.var(a, ddof=1) + (len(b) - 1) * np.var(b, ddof=1)) / m
    small = special.gamma(m / 2) / (math.sqrt(m / 2) * special.gamma((m - 1) / 2))
    return {
        "interval": interval(test.confidence_interval(0.95)),
        "p": test.pvalue,
        "effect": small * (np.mean(a) - np.mean(b)) / math.sqrt(pooled),
    }


def corrected(d, folds):
    """Nadeau and Bengio (2003)."""
    error = np.std(d, ddof=1) * math.sqrt(1 / len(d) + 1 / (folds - 1))
    t = stats.t(len(d) - 1)
    mean = np.mean(d)
    return {
        "interval": [mean + t.ppf(0.025) * error, mean + t.ppf(0.975) * error],
        "p": 2 * t.sf(abs(mean) / error),
        "effect": mean / np.std(d, ddof=1),
    }


answers = []
for case in json.load(sys.stdin):
    a, b = case["a"], case["b"]
    answers.append(
        {
            "of": of(a),
            "paired": paired(a[: len(b)], b[: len(a)]),
            "welch": welch(a, b),
            "corrected": corrected(a, len(a)),
            "bca": bca([a], case["ofA"]),
            "bcaOfBoth": bca([a, b], case["ofBoth"]),
            "redrawn": redrawn(a),
        }
    )
json.dump(answers, sys.stdout)
