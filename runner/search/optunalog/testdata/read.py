#!/usr/bin/env python3
"""Prints what Optuna reads in journal files, as JSON: read.py FILE...

    python3 -m venv env && env/bin/pip install optuna==5.0.0
    LORALAB_OPTUNA=env/bin/python go test ./runner/search/optunalog

compares the journals that are written now with what Optuna reads in them;
LORALAB_UPDATE=1 also records that as optuna.json.
"""

import json
import sys
import warnings

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
out = {}
for path in sys.argv[1:]:
    storage = JournalStorage(JournalFileBackend(path))
    for summary in optuna.get_all_study_summaries(storage):
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        states = {}
        for t in study.trials:
            states[t.state.name] = states.get(t.state.name, 0) + 1
        out[study.study_name] = {
            "direction": study.direction.name,
            "metric": (study.metric_names or [""])[0],
            "attrs": study.user_attrs,
            "best": study.best_value,
            "number": study.best_trial.number,
            "params": study.best_params,
            "states": states,
            "steps": sum(len(t.intermediate_values) for t in study.trials),
            "importance": optuna.importance.get_param_importances(study),
            # Optuna goes through the whole history to continue the study.
            "continues": study.ask().number == len(study.trials) - 1,
        }
json.dump(out, sys.stdout, indent="\t", sort_keys=True)
print()
