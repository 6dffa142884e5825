"""Runs loralab and PEFT in turns, each in a process of its own, and prints the ratios."""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=pathlib.Path)
    parser.add_argument("--ours", type=pathlib.Path, required=True, help="the bench-step binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps in each round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first-block", type=int, default=0, help="first block with adapters")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of loralab")
    parser.add_argument("--peer-precision", choices=["fp32", "bf16", "autocast"], default="fp32",
                        help="of PEFT; fp32 unless told, so that bf16 is measured against what it replaces")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    data = args.cache / f"data-{args.batch}"
    peft = [sys.executable, HERE / "peft_step.py", data, "--batch", str(args.batch)]
    if not (data / "start.safetensors").exists():
        data.mkdir(parents=True, exist_ok=True)
        subprocess.run([*peft, "--prepare"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    common = ["--steps", str(args.steps), "--threads", str(args.threads),
              "--first-block", str(args.first_block), "--device", args.device]
    sides = {
        "loralab": [args.ours, *common, "--precision", args.precision, data],
        "peft": [*peft, *common, "--precision", args.peer_precision],
    }
    rounds = {name: [] for name in sides}
    for i in range(args.rounds):
        for name, command in sides.items():
            rounds[name].append(run(command))
            print(f"round {i + 1} {name}: {rounds[name][-1]['ms_median']:.0f} ms", file=sys.stderr)

    def best(name, key):
        return min(r[key] for r in rounds[name])

    def median(name):
        values = sorted(m for r in rounds[name] for m in r["ms"])
        return values[len(values) // 2]

    keys = ["ms_min", "cpu_ms_min", "first_step_s", "peak_rss_mb"] + (["peak_cuda_mb"] if args.device != "cpu" else [])
    table = {"ms_median": {n: median(n) for n in sides}} | {k: {n: best(n, k) for n in sides} for k in keys}
    for row in table.values():
        row["ratio"] = row["peft"] / row["loralab"] if row["loralab"] else None
    a, b = (rounds[n][0]["losses"] for n in sides)
    table["loss_difference"] = max(abs(x - y) for x, y in zip(a, b))
    if args.json:
        print(json.dumps({"table": table, "rounds": rounds}, indent=2))
        return
    print(f"ViT-B/16, 224, batch {args.batch}, LoRA r16 on q, k, v, output of blocks {args.first_block}-11, "
          f"{args.threads} threads, {args.device}")
    print(f"{'':14}{'loralab ' + args.precision:>16}{'PEFT ' + args.peer_precision:>16}{'PEFT/loralab':>16}")
    for key, row in table.items():
        if isinstance(row, dict):
            print(f"{key:14}{row['loralab']:16.1f}{row['peft']:16.1f}{row['ratio']:16.2f}")
    print(f"largest difference of the loss over {len(a)} steps: {table['loss_difference']:.2g}")


if __name__ == "__main__":
    main()
