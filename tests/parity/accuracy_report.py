"""The tables of accuracy.sh: mean over seeds beside PyTorch's figure, at most 3 points from it; and
what bf16 and int8 change, in accuracy by at most 0.5 and 1 points in the mean over seeds, with the
same class for 99 and 98 % of the examples, and the largest difference of a logit within 1 and 3 %
of their range in the median over seeds. Exit 1 where that does not hold.

usage: python accuracy_report.py RESULTS
Lines of RESULTS: task, method, seed, JSON of train, of eval, and of eval in bf16, in int8 and in
int8 calibrated, against f32, tab-separated.
"""

import json
import statistics
import sys

TOLERANCE = 3.0
# What a precision may change, in points and percent (of the range of f32's logits).
BF16 = {"accuracy": 0.5, "same": 99.0, "largest": 1.0}
INT8 = {"accuracy": 1.0, "same": 98.0, "largest": 3.0}
# (as it is told, precision, limits)
PRECISIONS = (
    ("bf16", "bf16", BF16),
    ("int8", "int8", INT8),
    ("int8, calibrated", "int8", INT8),
)
# (task, method): (accuracy in percent, examples it is of, trainable parameters), PyTorch 2.13, seed
# 0, 1,000 training examples.
PYTORCH = {
    ("cifar10", "linear"): (71.0, 1000, 1_930),
    ("cifar10", "lora"): (79.9, 1000, 75_658),
    ("eurosat", "linear"): (88.4, 1000, 1_930),
    ("eurosat", "lora"): (93.9, 1000, 75_658),
    ("sst2", "linear"): (67.2, 872, 770),
    ("sst2", "lora"): (81.4, 872, 74_498),
    ("sst2", "bitfit"): (79.1, 872, 26_882),
    ("sst2", "full"): (83.6, 872, 22_713_986),
    ("trec6", "linear"): (46.2, 500, 2_310),
    ("trec6", "lora"): (92.4, 500, 76_038),
    ("trec6", "full"): (93.6, 500, 22_715_526),
}


def read_groups(path):
    """(task, method) -> [(trained, evaluated, one for each of PRECISIONS)], one for each seed"""
    groups = {}
    for line in open(path):
        task, method, _, *records = line.rstrip("\n").split("\t")
        groups.setdefault((task, method), []).append([json.loads(r) for r in records])
    if not groups:
        sys.exit("no results")
    return groups


def table_beside_pytorch(groups):
    """Prints it; returns whether all is good."""
    good = True
    print(
        "| task | method | Graft accuracy, by seed | mean | PyTorch | difference "
        "| trainable | train seconds | good |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for key, runs in groups.items():
        # A fraction, as in the command's contract.
        accuracies = [100 * evaluated["accuracy"] for _, evaluated, *_ in runs]
        mean, (reference, examples, parameters) = statistics.mean(accuracies), PYTORCH[key]
        counted = {trained["trainable_parameters"] for trained, *_ in runs}
        fine = (
            abs(mean - reference) <= TOLERANCE
            and counted == {parameters}
            and all(evaluated["n"] == examples for _, evaluated, *_ in runs)
        )
        good = good and fine
        seconds = statistics.median(trained["seconds"] for trained, *_ in runs)
        print(
            f"| {key[0]} | {key[1]} | {', '.join(f'{a:.1f}' for a in accuracies)} | {mean:.1f} | "
            f"{reference} | {mean - reference:+.1f} | {', '.join(map(str, counted))} | "
            f"{seconds:.0f} | {'yes' if fine else 'NO'} |"
        )
    return good


def table_of_precisions(groups):
    """Prints it; returns whether all that this CPU has is good, and the precisions it lacks."""
    good, missing = True, set()
    print()
    print("| task | method | precision | accuracy, change | same class | largest difference | ok |")
    print("|---|---|---|---|---|---|---|")
    for (task, method), runs in groups.items():
        for i, (told, dtype, limits) in enumerate(PRECISIONS):
            low = [run[2 + i] for run in runs]
            if any(r["dtype"] != dtype for r in low):
                missing.add(dtype)
                continue
            change = 100 * statistics.mean(r["accuracy"] - r["against"]["accuracy"] for r in low)
            same = [100 * r["against"]["agreement"] for r in low]
            largest = [
                100 * r["against"]["max_logit_difference"] / r["against"]["logit_range"]
                for r in low
            ]
            fine = (
                abs(change) <= limits["accuracy"]
                and min(same) >= limits["same"]
                and statistics.median(largest) <= limits["largest"]
            )
            good = good and fine
            print(
                f"| {task} | {method} | {told} | {change:+.2f} | "
                f"{', '.join(f'{x:.1f}' for x in same)} | "
                f"{', '.join(f'{x:.2f}' for x in largest)} | {'yes' if fine else 'NO'} |"
            )
    return good, missing


def main():
    groups = read_groups(sys.argv[1])
    near = table_beside_pytorch(groups)
    exact, missing = table_of_precisions(groups)
    low = f"no {' and '.join(sorted(missing))} on this CPU" if missing else ""
    if len(missing) < len({dtype for _, dtype, *_ in PRECISIONS}):
        low += f"{', ' if low else ''}low precision {'within' if exact else 'NOT within'} limits"
    print(
        f"\n{len(groups)} mean accuracies, {'all' if near else 'NOT all'} within {TOLERANCE} "
        f"points; {low}"
    )
    sys.exit(0 if near and exact else 1)


if __name__ == "__main__":
    main()
