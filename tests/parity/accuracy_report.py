"""The table of accuracy.sh: mean over seeds beside PyTorch's figure; exit 1 where it is more than 3
points below or above.

usage: python accuracy_report.py RESULTS
Lines of RESULTS: task, method, seed, JSON of train, JSON of eval, tab-separated.
"""

import json
import statistics
import sys

TOLERANCE = 3.0
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


def main():
    groups, good = {}, True
    for line in open(sys.argv[1]):
        task, method, seed, trained, evaluated = line.rstrip("\n").split("\t")
        groups.setdefault((task, method), []).append(
            (int(seed), json.loads(trained), json.loads(evaluated))
        )
    if not groups:
        sys.exit("no results")
    print(
        "| task | method | Graft accuracy, by seed | mean | PyTorch | difference "
        "| trainable | train seconds | good |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for key, runs in groups.items():
        # A fraction, as in the command's contract.
        accuracies = [100 * e["accuracy"] for _, _, e in runs]
        mean, (reference, examples, parameters) = statistics.mean(accuracies), PYTORCH[key]
        counted = {t["trainable_parameters"] for _, t, _ in runs}
        fine = (
            abs(mean - reference) <= TOLERANCE
            and counted == {parameters}
            and all(e["n"] == examples for _, _, e in runs)
        )
        good = good and fine
        seconds = statistics.median(t["seconds"] for _, t, _ in runs)
        print(
            f"| {key[0]} | {key[1]} | {', '.join(f'{a:.1f}' for a in accuracies)} | {mean:.1f} | "
            f"{reference} | {mean - reference:+.1f} | {', '.join(map(str, counted))} | "
            f"{seconds:.0f} | {'yes' if fine else 'NO'} |"
        )
    count = len(groups)
    print(f"{count} mean accuracies, {'all' if good else 'NOT all'} within {TOLERANCE} points")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
