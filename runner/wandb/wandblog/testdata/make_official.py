"""Writes official.wandb with the official client, offline. The test compares what
our reader finds in it with official.json, what the client's own program for reading finds.

    python make_official.py   # with the Python of internal/python
"""

import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).parent
os.environ.update(WANDB_MODE="offline", WANDB_DISABLE_GIT="true", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false",
                  WANDB_X_DISABLE_STATS="true", WANDB_X_DISABLE_META="true", WANDB_X_SAVE_REQUIREMENTS="false",
                  WANDB_CONSOLE="wrap", WANDB_HOST="machine", WANDB_USERNAME="someone")

import wandb

with tempfile.TemporaryDirectory() as folder:
    os.environ["HOME"] = folder
    os.chdir(folder)
    run = wandb.init(project="nuclei", entity="lab", id="official", name="rank=4/seed=1", group="rank", job_type="train",
                     tags=["dinov2", "lora"], notes="a note", config={"lr": 1e-3, "model": {"depth": 4}}, dir=folder)
    run.define_metric("epoch")
    run.define_metric("long", summary="none")
    run.define_metric("val/dice", step_metric="epoch", summary="max")
    for step in range(5):
        run.log({"train/loss": 1 / (step + 1), "nested": {"a": {"b": step}}})
    run.log({"val/dice": float("nan"), "epoch": 1, "long": "x" * 32000})
    run.log({"table": wandb.Table(columns=["image", "dice"], data=[["a.png", 0.5]]),
             "weights": wandb.Histogram(np_histogram=([1, 2, 1], [0.0, 0.5, 1.0, 1.5]))})
    run.summary["best/dice"] = 0.75
    print("a line")
    run.alert("done", "all is well")
    run.finish(exit_code=3)
    wandb.teardown()  # ends the process that writes the log
    [log] = glob.glob("wandb/offline-run-*/run-*.wandb")
    shutil.copy(log, here / "official.wandb")
    shown = subprocess.run([sys.executable, "-m", "wandb", "leet", "inspect", "--json", log], capture_output=True, text=True, check=True)
    assert shown.stderr == "", shown.stderr
    (here / "official.json").write_text(shown.stdout)
