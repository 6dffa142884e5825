#!/usr/bin/env python3
"""Records what Optuna's default sampler and random search reach.

The fixture of the sampler gate: for each problem, sampler and number of
workers, the best value after 40 and after 80 trials of every seed.

    python3 -m venv env && env/bin/pip install optuna==5.0.0
    env/bin/python record.py > optuna.csv          # 5 minutes of two cores

With several workers, N trials are asked for and then told in the same order.
Random search depends on neither results nor workers, so it is recorded once.
"""

import csv
import math
import multiprocessing
import sys

import optuna

assert optuna.__version__ == "5.0.0", optuna.__version__
optuna.logging.set_verbosity(optuna.logging.ERROR)
SEEDS = range(100)


def quad2(t):
    x = t.suggest_float("x", -10, 10)
    y = t.suggest_float("y", -10, 10)
    return (x - 2) ** 2 + (y + 1) ** 2


def mixed(t):
    lr = t.suggest_float("lr", 1e-5, 1e-1, log=True)
    wd = t.suggest_float("wd", 1e-7, 1e-1, log=True)
    dropout = t.suggest_float("dropout", 0, 0.5)
    variant = "abcde".index(t.suggest_categorical("variant", list("abcde")))
    m = [-3, -2.5, -3.5, -2, -4][variant]
    q = [0.6, 0.3, 0, 0.9, 1.2][variant]
    return (math.log10(lr) - m) ** 2 + 0.25 * (math.log10(wd) + 4) ** 2 + 4 * (dropout - 0.1) ** 2 + q


def edge4(t):
    return sum((t.suggest_float(f"x{i}", 0, 1) - 0.95) ** 2 for i in range(4))


def six6(t):
    centers = [0.3, 0.7, 0.2, 0.6, 0.45, 0.8]
    return sum((t.suggest_float(f"x{i}", 0, 1) - c) ** 2 for i, c in enumerate(centers))


def cond(t):
    variant = t.suggest_categorical("variant", ["lora", "block", "full"])
    lr = math.log10(t.suggest_float("lr", 1e-5, 1e-1, log=True))
    if variant == "lora":
        rank = t.suggest_int("rank", 2, 64, log=True)
        dropout = t.suggest_float("dropout", 0, 0.5, step=0.1)
        return 0.1 + 0.5 * (lr + 3) ** 2 + 0.1 * (math.log2(rank) - 4) ** 2 + 4 * (dropout - 0.1) ** 2
    if variant == "block":
        blocks = t.suggest_int("blocks", 1, 12)
        scale = t.suggest_float("scale", 0.01, 10, log=True)
        return 0.5 * (lr + 2) ** 2 + 0.02 * (blocks - 8) ** 2 + 0.2 * (math.log10(scale) - 0.3) ** 2
    return 0.3 + 0.5 * (lr + 4) ** 2


PROBLEMS = {f.__name__: f for f in (quad2, mixed, edge4, six6, cond)}


def best(job):
    problem, sampler, workers, seed = job
    f = PROBLEMS[problem]
    make = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler]
    study = optuna.create_study(sampler=make(seed=seed))
    values = []
    while len(values) < 80:
        results = []
        for _ in range(workers):
            t = study.ask()
            results.append((t, f(t)))  # f only asks for parameters: the trial still runs
        for t, value in results:
            study.tell(t, value)
            values.append(value)
    return job, min(values[:40]), min(values[:80])


def main():
    jobs = [
        (problem, sampler, workers, seed)
        for problem in PROBLEMS
        for sampler, workers in (("random", 1), ("tpe", 1), ("tpe", 8))
        for seed in SEEDS
    ]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["problem", "sampler", "workers", "seed", "after40", "after80"])
    with multiprocessing.Pool(2) as pool:
        for (problem, sampler, workers, seed), at40, at80 in pool.imap(best, jobs):
            out.writerow([problem, sampler, workers, seed, f"{at40:.9g}", f"{at80:.9g}"])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
