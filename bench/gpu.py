"""Runs what bench/gpu.sh promises and writes what came of it: gpu.json, after each step, and summary.txt.

Parts run one after another, each in processes of its own with a limit of time. A part
that fails, or that no time is left for, does not end the others.

    gpu.py ROOT --out DIR       # of the kit, or of a clone that has its programs
    gpu.py --summary gpu.json   # prints the summary
"""

import argparse
import collections
import glob
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import peft_step

FORMAT = 1
STEPS = 20  # of each run that is compared with the CPU
# Seconds that a part may take. The benchmark takes what is left.
LIMITS = {"doctor": 30, "weights": 60, "tests": 90, "requests": 130, "memory": 45, "experiment": 75, "benchmark": 1000}
# What a part needs to be there.
NEEDS = {"requests": "weights", "memory": "weights", "experiment": "weights"}
CASE = 120  # seconds that one case of the benchmark may take
EXHAUSTED = 4  # as in bench/step
# Dense products, in TFLOP/s, as in NVIDIA's data sheets. The first name that is a part
# of the device's counts.
PEAKS = {
    "H200": {"bf16": 989.5, "tf32": 494.7, "fp32": 67},
    "H100 PCIe": {"bf16": 756, "tf32": 378, "fp32": 51},
    "H100 80GB HBM3": {"bf16": 989.5, "tf32": 494.7, "fp32": 67},
    "A100": {"bf16": 312, "tf32": 156, "fp32": 19.5},
    "L40S": {"bf16": 362, "tf32": 183, "fp32": 91.6},
    "L4": {"bf16": 121, "tf32": 60, "fp32": 30.3},
}
# How far the losses of loralab may be from those of the peer.
LOSSES = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 2e-2}
# What is switched off, or on, in turn: options of bench-step.
LEVERS = {
    "attention: products": ["-attention", "products"],
    "attention: libtorch chooses": ["-attention", "fused"],
    "query, key, value apart": ["-fuse=false"],
    "uploads: pageable": ["-upload", "pageable"],
    "uploads: none": ["-upload", "once"],
    "optimizer: not fused": ["-optimizer", "plain"],
    "loss read in each step": ["-late=false"],
    "deterministic": ["-deterministic"],
    "tf32": ["-precision", "tf32"],
    "fp32": ["-precision", "fp32"],
}
OF_GPUS = {"deterministic", "tf32", "fp32"}


class Failed(Exception):
    """Says what failed; log is the name of a log."""

    def __init__(self, reason, log=""):
        super().__init__(reason)
        self.log = log


class Skipped(Exception):
    """Says why something was not done."""


Done = collections.namedtuple("Done", "code out log")


class Bench:
    def __init__(self, args):
        self.root, self.out = args.root.resolve(), args.out.resolve()
        self.device, self.end = args.device, time.monotonic() + args.limit
        self.begin = time.monotonic()
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="loralab-gpu-"))
        self.project = self.work / "project"
        self.env = os.environ | {
            "LORALAB_DEVICE": "cpu" if args.device == "cpu" else "cuda:0",
            "LORALAB_DATA": str(self.root / "data"),
            "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1",
            # What a training finds out on one machine is not taken from another day.
            "XDG_CACHE_HOME": str(self.work / "cache"), "XDG_DATA_HOME": str(self.work / "share"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.work / "inductor"), "TRITON_CACHE_DIR": str(self.work / "triton"),
        }
        self.doc = {
            "format": FORMAT, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "limit_s": args.limit,
            "device": {"kind": args.device}, "machine": machine(), "parts": [], "benchmark": [],
        }

    def left(self):
        return self.end - time.monotonic()

    def save(self):
        self.doc["seconds"] = round(time.monotonic() - self.begin, 1)
        for name, text in ("gpu.json", json.dumps(self.doc, indent=1) + "\n"), ("summary.txt", summary(self.doc)):
            new = self.out / (name + ".new")
            new.write_text(text)
            new.replace(self.out / name)

    def run(self, name, command, limit, cwd=None, ok=(0,), **env):
        """Runs a command to its end or to its limit, with what it says in a log of this name."""
        log = self.out / "logs" / (re.sub(r"[^A-Za-z0-9.]+", "-", name) + ".txt")
        limit = min(limit, self.left())
        if limit < 2:
            raise Skipped("no time is left")
        with open(log, "wb") as f:
            f.write((" ".join(map(str, command)) + "\n").encode())
            f.flush()
            process = subprocess.Popen([str(c) for c in command], cwd=cwd or self.work, env=self.env | env,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=f, start_new_session=True)
            try:
                out = process.communicate(timeout=limit)[0]
            except subprocess.TimeoutExpired:
                out = None
            finally:
                # An engine ends with its runner; what else it has started ends here.
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if out is None:
                out = process.communicate()[0]
                f.write(out)
                raise Failed(f"it took longer than {limit:.0f} s", log.name)
            f.write(out)
        if process.returncode not in ok:
            raise Failed(f"exit status {process.returncode}", log.name)
        return Done(process.returncode, out.decode(errors="replace"), log.name)

    def part(self, name, do):
        """Does a part and writes down what came of it."""
        print(f"{time.monotonic() - self.begin:4.0f} s  {name}", file=sys.stderr, flush=True)
        entry, start = {"name": name}, time.monotonic()
        try:
            missing = [p["name"] for p in self.doc["parts"] if p["name"] == NEEDS.get(name) and p["state"] != "passed"]
            if missing:
                raise Skipped(f"it needs the part {missing[0]}")
            entry |= {"state": "passed"} | (do(min(LIMITS[name], self.left())) or {})
        except Skipped as e:
            entry |= {"state": "skipped", "reason": str(e)}
        except Failed as e:
            entry |= {"state": "failed", "reason": str(e)} | self.tail(e.log)
        except Exception as e:  # of this program; the next part has nothing to do with it
            entry |= {"state": "failed", "reason": f"{type(e).__name__}: {e}"}
        entry["seconds"] = round(time.monotonic() - start, 1)
        self.doc["parts"].append(entry)
        self.save()

    def tail(self, log):
        if not log:
            return {}
        lines = (self.out / "logs" / log).read_text(errors="replace").splitlines()
        return {"log": "logs/" + log, "tail": lines[-25:]}

    # The parts.

    def doctor(self, limit):
        facts = self.run("facts", [sys.executable, "-B", __file__, "--facts"], limit).out
        self.doc["device"] |= json.loads(facts.splitlines()[-1])
        checks = json.loads(self.run("doctor", [self.root / "bin/runner", "doctor", "--json"], limit, ok=(0, 1)).out)
        self.doc["doctor"] = checks
        bad = [f"{c['name']}: {c['value']}" for c in checks if c["state"] == "fail"]
        if bad:
            raise Failed("; ".join(bad), "doctor.txt")

    def weights(self, limit):
        for folder in "cue.mod", "experiments":
            (self.project / folder).mkdir(parents=True)
        shutil.copy(self.root / "cue.mod/module.cue", self.project / "cue.mod")
        for file in "bench/device.cue", "experiments/ablation_rank.cue":
            shutil.copy(self.root / file, self.project / "experiments")
        self.run("weights", [sys.executable, "-B", __file__, "--weights", self.project], limit)

    def tests(self, limit):
        return self.gotest("tests", "^TestDevice$", limit)

    def requests(self, limit):
        start = time.monotonic()
        self.run("requests apply", self.apply("device.cue", "--smoke"), limit, self.project)
        return self.gotest("requests", "^TestRequests$", limit - (time.monotonic() - start),
                           LORALAB_TEST_STEPS=str(STEPS if self.device != "cpu" else 5),
                           LORALAB_TEST_REQUESTS=str(self.project / "runs/device.smoke"))

    def total(self):
        """Bytes of the GPU."""
        if "memory" not in self.doc["device"]:
            raise Failed("the torch of this Python sees no GPU", "facts.txt")
        return self.doc["device"]["memory"]

    def memory(self, limit):
        if self.device == "cpu":
            raise Skipped("a CPU has no memory of its own")
        total = self.total()
        command = self.apply("device.cue", "--target", "memory")
        self.run("memory whole", command, limit, self.project)
        results = glob.glob(str(self.project / "runs/memory/*/result.json"))
        peak = int(json.loads(pathlib.Path(results[0]).read_text())["peak_device_memory"])
        share = 0.75 * peak / total
        done = self.run("memory retry", [*command, "--retry", "2", "--set", "seeds=[2]"], limit, self.project,
                        PYTORCH_ALLOC_CONF=f"per_process_memory_fraction:{share:.6f}")
        if "retrying: the memory of" not in done.out:
            raise Failed(f"with 0.75 of {peak} bytes it was not tried again", done.log)
        return {"peak": peak}

    def experiment(self, limit):
        self.run("experiment", self.apply("ablation_rank.cue", "-t", "scale=smoke", "--set", "backbone.model=./dinov2"),
                 limit, self.project)
        return {"table": (self.project / "report/ablation_rank/table.md").read_text()}

    def apply(self, file, *options):
        tag = ["-t", "device=cuda"] if file == "device.cue" and self.device != "cpu" else []
        return [self.root / "bin/runner", "apply", *tag, *options, f"experiments/{file}"]

    def gotest(self, name, tests, limit, **env):
        failed = None
        try:
            self.run(name, [self.root / "bin/train.test", "-test.v", "-test.run", tests], limit,
                     self.root / "core/engine/train", LORALAB_TEST_DEVICE="cpu" if self.device == "cpu" else "cuda", **env)
        except Failed as e:
            failed = e
        tests = go_tests((self.out / "logs" / f"{name}.txt").read_text(errors="replace"))
        if not failed and not tests:
            failed = Failed("no test ran", f"{name}.txt")
        entry = {"tests": tests}
        if failed:
            bad = [t["name"] for t in tests if not t["passed"]]
            entry |= {"state": "failed", "reason": ": ".join([str(failed)] + ([", ".join(bad)] if bad else []))}
            entry |= self.tail(failed.log)
        return entry

    # The benchmark.

    def benchmark(self, limit):
        failed = skipped = 0
        todo = cases(self.device)
        for case in todo:
            try:
                self.case(case)
            except Skipped as e:
                self.keep(case | {"skipped": str(e)})
                skipped += 1
            except Failed as e:
                self.keep(case | {"failed": str(e)} | self.tail(e.log))
                failed += 1
        differences = compare(self.doc["benchmark"])
        entry = {"losses": differences}
        reasons = [f"{failed} of {len(todo)} cases failed"] if failed else []
        reasons += [f"losses of {d['case']} differ by {d['difference']:.2g}" for d in differences if not d["difference"] <= d["allowed"]]
        if reasons:
            entry |= {"state": "failed", "reason": "; ".join(reasons)}
        if skipped:
            entry["note"] = f"{skipped} of {len(todo)} cases skipped"
        return entry

    def keep(self, result):
        """Writes down a result, so that it stays whatever comes next."""
        rate(result, self.doc["device"])
        self.doc["benchmark"].append(result)
        self.save()

    def case(self, case):
        headers = pathlib.Path(os.environ["LIBTORCH"]) / "include/torch/csrc/inductor"
        if case["side"] == "compiled" and self.device == "cpu" and not headers.exists():
            raise Skipped("this torch has no headers, which torch.compile needs on a CPU")
        data = self.work / f"{case['model']}-{case['size']}"
        peer = [sys.executable, "-B", self.root / "bench/peft_step.py", data, "--model", case["model"], "--size", case["size"]]
        if not (data / "start.safetensors").exists():
            data.mkdir(exist_ok=True)
            self.run(f"prepare {data.name}", [*peer, "--prepare", "--batch", min(case["batches"])], CASE)
        name = " ".join(str(case[k]) for k in ("side", "model", "size", "lever") if case.get(k))
        print(f"{time.monotonic() - self.begin:4.0f} s  benchmark: {name}", file=sys.stderr, flush=True)
        threads, steps = min(16, os.cpu_count()), ["--warmup", case["warmup"], "--steps", case["steps"]]
        if case["side"] != "loralab":
            command = [*peer, "--device", self.device, "--threads", threads, "--precision", case["precision"], *steps,
                       "--upload", "pinned", "--late", "--batch", *case["batches"]]
            command += ["--compile"] if case["side"] == "compiled" else []
            command += ["--largest"] if case["largest"] else []
            self.peer(name, case, command)
            return

        def once(batch, steps):
            command = [self.root / "bin/bench-step", "-device", self.device, "-threads", threads, "-model", case["model"],
                       "-size", case["size"], "-batch", batch, "-precision", case["precision"], "-upload", "pinned", "-late",
                       *steps, *case["options"], data]
            done = self.run(f"{name} {batch}", command, CASE, ok=(0, EXHAUSTED))
            return None if done.code == EXHAUSTED else case | lines(done.out)[-1]

        peaks = {}
        for batch in case["batches"]:
            result = once(batch, steps)
            self.keep(result or case | {"batch": batch, "exhausted": True})
            if result:
                peaks[batch] = result["peak_cuda_mb"]
        if case["largest"]:
            total = self.total() / 2**20
            self.keep(case | peft_step.largest(peaks, total, lambda n: once(n, ["-warmup", 2, "-steps", 5])))

    def peer(self, name, case, command):
        """Keeps the batches that were timed, also where a later one failed."""
        failed = None
        try:
            self.run(name, command, CASE)
        except Failed as e:
            failed = e
        log = self.out / "logs" / (re.sub(r"[^A-Za-z0-9.]+", "-", name) + ".txt")
        for result in lines(log.read_text(errors="replace")):
            self.keep(case | result | {"side": case["side"], "with": result["side"]})
        if failed:
            raise failed


def cases(device):
    """What is timed, the most important first."""

    def case(side, model, size, batches, largest=False, options=(), lever=""):
        gpu = device != "cpu"
        return {
            "side": side, "model": model, "size": size, "batches": batches, "largest": largest and gpu,
            "precision": "bf16" if gpu else "fp32", "options": list(options), "lever": lever,
            "warmup": 5 if gpu else 1, "steps": 20 if gpu else 2,
        }

    def levers(model, size, batch):
        for name, options in LEVERS.items():
            if device == "cpu" and name in OF_GPUS:
                continue
            c = case("loralab", model, size, [batch], options=options, lever=name)
            if "-precision" in options:
                c["precision"] = options[1]
            yield c

    if device == "cpu":
        return [*(case(side, "s", 96, [2]) for side in ("loralab", "eager", "compiled")), *levers("s", 96, 2)]
    out = []
    for model, size in ("b", 224), ("l", 224), ("b", 512), ("l", 512):
        out += [case("loralab", model, size, [8, 32], largest=True), case("eager", model, size, [8, 32], largest=True)]
        if (model, size) == ("b", 224):
            out.append(case("compiled", model, size, [32]))
    out += levers("b", 224, 32)
    # Compiling takes most of a minute for each shape.
    compiled = [("l", 224, 32), ("b", 512, 32), ("l", 512, 32), ("b", 224, 8), ("l", 224, 8), ("b", 512, 8), ("l", 512, 8)]
    return out + [case("compiled", model, size, [batch]) for model, size, batch in compiled]


def lines(text):
    """The results in what bench-step and peft_step.py print: a line of JSON each."""
    results = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                results.append(json.loads(line))
            except json.JSONDecodeError:
                pass  # a process that was ended in the middle of a line
    return results


def go_tests(text):
    """The tests in what go test -v prints, without those that only hold others."""
    tests = [{"name": m[2], "passed": m[1] == "PASS", "seconds": float(m[3])}
             for m in re.finditer(r"^ *--- (PASS|FAIL): (\S+) \((\d+\.\d+)s\)", text, re.M)]
    return [t for t in tests if not any(u["name"].startswith(t["name"] + "/") for u in tests)]


def flops(model, size, batch):
    """Operations of a training step: forward, and back to the inputs of frozen layers."""
    width, blocks, _ = peft_step.MODELS[model]
    tokens = (size // 16) ** 2 + 1
    layers, attention = 24 * tokens * width**2, 4 * tokens**2 * width
    lora = 16 * tokens * peft_step.RANK * width
    return batch * blocks * (2 * layers + 3 * attention + 3 * lora)


def rate(r, device):
    """Adds images a second and the share of the device's peak to a result."""
    if not r.get("ms_median"):
        return
    r["images_per_second"] = r["batch"] / r["ms_median"] * 1e3
    for name, peaks in PEAKS.items():
        if re.search(rf"\b{name}\b", device.get("name", "")):
            r["share_of_peak"] = flops(r["model"], r["size"], r["batch"]) / r["ms_median"] * 1e3 / peaks[r["precision"]] / 1e12
            return


def compare(results):
    """How far the losses of loralab are from those of the peer on the same weights and batch."""
    peers = {(r["model"], r["size"], r["batch"], r["precision"]): r for r in results if r["side"] == "eager" and r.get("losses")}
    out = []
    for r in results:
        peer = r["side"] == "loralab" and not r["lever"] and r.get("losses") and peers.get((r["model"], r["size"], r["batch"], r["precision"]))
        if peer:
            worst = max(abs(a - b) / max(1, abs(b)) for a, b in zip(r["losses"], peer["losses"]))
            out.append({"case": f"{r['model']} {r['size']} {r['batch']}", "difference": worst, "allowed": LOSSES[r["precision"]]})
    return out


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal: *(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {"cpu": cpu[1] if cpu else "", "cores": os.cpu_count(), "memory": int(memory[1]) << 10, "system": platform.platform()}


def facts():
    """Prints what this Python and its GPU are."""
    import importlib.metadata as metadata

    import torch

    versions = {"python": platform.python_version()}
    for package in "torch", "transformers", "peft", "triton":
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    out = {"versions": versions}
    if torch.cuda.is_available():
        p = torch.cuda.get_device_properties(0)
        out |= {"name": p.name, "memory": p.total_memory, "capability": f"{p.major}.{p.minor}",
                "count": torch.cuda.device_count(), "cuda": torch.version.cuda}
    driver = pathlib.Path("/proc/driver/nvidia/version")
    if driver.exists():
        out["driver"] = driver.read_text().splitlines()[0]
    print(json.dumps(out))


def weights(project):
    """Makes the models of bench/device.cue, and one in the shape of DINOv2-small; all random."""
    import torch
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    torch.manual_seed(0)
    small = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
    ViTModel(ViTConfig(**small, intermediate_size=96, image_size=64), add_pooling_layer=False).save_pretrained(project / "toy16")
    Dinov2Model(Dinov2Config(**small, mlp_ratio=2, image_size=56, patch_size=14)).save_pretrained(project / "toy14")
    Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)).save_pretrained(project / "dinov2")


def summary(doc):
    """The document as a text to read."""
    device, versions = doc["device"], doc["device"].get("versions", {})
    out = [f"loralab on {device.get('name') or doc['machine']['cpu'] or device['kind']}, {doc['date']}"]
    out.append(", ".join(f"{k} {v or '-'}" for k, v in versions.items()))
    out.append(f"{doc.get('seconds', 0):.0f} s of {doc['limit_s']:.0f} s\n")
    for p in doc["parts"]:
        words = [p[k] for k in ("reason", "note") if p.get(k)]
        tests = p.get("tests")
        if tests:
            words.insert(0, f"{sum(t['passed'] for t in tests)} of {len(tests)} tests passed")
        out.append(f"{p['name']:12}{p['state']:9}{p['seconds']:6.1f} s  {'; '.join(words)}".rstrip())
    done = [r for r in doc["benchmark"] if r.get("ms_median")]
    if done:
        out.append(f"\n{'model':6}{'size':>5}{'batch':>6}  {'':34}{'ms/step':>9}{'images/s':>10}{'of peak':>9}{'peak MB':>9}{'first s':>9}{'speed':>7}")
        base = {(r["model"], r["size"], r["batch"]): r["ms_median"] for r in done if r["side"] == "loralab" and not r["lever"]}
        for r in done:
            share = f"{r['share_of_peak']:.1%}" if r.get("share_of_peak") else "-"
            ours = base.get((r["model"], r["size"], r["batch"]))
            who = r["lever"] or {"loralab": "loralab", "compiled": "torch.compile"}.get(r["side"], r.get("with", r["side"]))
            out.append(f"{r['model']:6}{r['size']:5}{r['batch']:6}  {who + ', ' + r['precision']:34.34}{r['ms_median']:9.1f}"
                       f"{r['images_per_second']:10.1f}{share:>9}{r['peak_cuda_mb'] or r['peak_rss_mb']:9.0f}{r['first_step_s']:9.1f}"
                       + (f"{ours / r['ms_median']:7.2f}" if ours else ""))
        out.append("speed: against loralab with the same batch; sides read losses and upload batches alike")
    skipped = {}
    for r in doc["benchmark"]:
        what = " ".join(str(r[k]) for k in ("side", "model", "size", "lever") if r.get(k))
        if r.get("exhausted"):
            out.append(f"no memory: {what}, batch {r.get('batch', '-')}")
        elif r.get("failed"):
            out.append(f"failed: {what}: {r['failed']}")
        elif r.get("skipped"):
            skipped.setdefault(r["skipped"], []).append(what)
    out += [f"skipped: {'; '.join(cases)}: {why}" for why, cases in skipped.items()]
    for e in [p for p in doc["parts"] if p.get("tail")] + [r for r in doc["benchmark"] if r.get("tail")]:
        out.append(f"\n{e['log']} ends with")
        out += ["  " + line for line in e["tail"]]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path, nargs="?")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-results"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--limit", type=float, default=465, help="seconds for all of it")
    parser.add_argument("--parts", default="all")
    parser.add_argument("--summary", type=pathlib.Path)
    parser.add_argument("--facts", action="store_true")
    parser.add_argument("--weights", type=pathlib.Path)
    args = parser.parse_args()
    if args.summary:
        return print(summary(json.loads(args.summary.read_text())), end="")
    if args.facts:
        return facts()
    if args.weights:
        return weights(args.weights)
    asked = set(LIMITS) if args.parts == "all" else set(args.parts.split())
    if not args.root or not asked <= set(LIMITS):
        parser.error(f"want ROOT, and --parts of {' '.join(LIMITS)}")
    asked |= {"doctor"} | {NEEDS[p] for p in asked if p in NEEDS}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is below ends things
    bench = Bench(args)
    try:
        for name in LIMITS:
            if name in asked:
                bench.part(name, getattr(bench, name))
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    print(summary(bench.doc), end="")
    sys.exit(any(p["state"] == "failed" for p in bench.doc["parts"]))


if __name__ == "__main__":
    main()
