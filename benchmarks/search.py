"""What a search costs and finds: 200 trials by two processes, one of them killed; TPE with a pruner against random.

`shared`: two processes work on one search, and one of them is killed again and again. Printed are how many trials there
are, and the CPU time of both processes, with what the kills have cost, over that of the fits.

`pruned`: on 200 training samples of the digits, as many trials by TPE with the median pruner as whole random ones: the
CPU time and best validation accuracy of either, and the test accuracy of both best ones on five fresh seeds.

`replayed`: the curves of whole random trials, given to pruners in 40 random orders: the share of the epochs that each
would have trained, and how much of the best validation accuracy it would have lost. No run is stopped for it.

All need Optuna, and the CPU times of fits alone do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner
from optuna.samplers import RandomSampler

from snn_exp.config.compose import compose
from snn_exp.reporting.stats import paired_difference
from snn_exp.runs.folder import RunFolder
from snn_exp.sweeps import journal, search, trials, winners
from snn_exp.sweeps.budget import Budget
from snn_exp.sweeps.pruning import NUM_UNPRUNED, REDUCTION
from snn_exp.sweeps.search import Asked

BASE = ("neuron=s2nn", "surrogate=s2nn", "residual=bireal", "dataset=digits_200", "logger=none")
SPACE = (
    "optim.lr=tag(log,interval(0.0003,0.1))",
    "optim.weight_decay=tag(log,interval(0.00001,0.01))",
    "surrogate.width=interval(0.25,4)",
)
FRESH_SEEDS = range(1, 6)


def shared(num_trials: int, num_kills: int, seed: int) -> None:
    """Let two processes work on one search, and kill one."""
    arguments = [*BASE, *SPACE, "network.width=4", "optim.batch_size=64", "trainer.max_epochs=5"]
    command = [sys.executable, "-m", "snn_exp", "search", *arguments, "--budget", str(num_trials)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    rng, begun = random.Random(seed), time.monotonic()
    asked, _ = search.read(arguments)
    steady, victim = start(), start()
    for kill in range(1, num_kills + 1):
        due = int(num_trials * kill / (num_kills + 1))
        while victim.poll() is None and (not asked.folder.exists() or len(journal.open_study(asked).trials) < due):
            time.sleep(1)
        time.sleep(rng.uniform(0, 2))
        if victim.poll() is not None:
            raise SystemExit("it was done before its last kill")
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        print(f"killed after {len(journal.open_study(asked).trials)} trials", flush=True)
        victim = start()
    codes = (steady.wait(), victim.wait())
    wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = journal.open_study(asked).trials
    states = {trial.state.name: sum(t.state == trial.state for t in found) for trial in found}
    fits = sum(trial.user_attrs["cpu_s"] for trial in found)
    runs = {asked.config_of(journal.proposed(asked, trial)).run_id for trial in found}
    cpu = used.ru_utime + used.ru_stime
    print(f"exit codes {codes}; trials {states}, of {len(runs)} runs; {wall:.0f} s; kills {num_kills}")
    print(f"CPU s: {cpu:.0f} in all, {fits:.0f} of them fits, {fits / len(found):.2f} per trial")
    beside = (cpu - fits) / len(found)
    print(
        f"beside the fit, with starts and kills: {beside:.2f} CPU s per trial; x {1 + beside / 120:.3f} of two minutes"
    )


def pruned(num_trials: int, sampler_seed: int, pruner: str, epochs: int) -> None:
    """Compare TPE with a pruner and random trials."""
    arguments = [*BASE, *SPACE, "optim.batch_size=16", f"trainer.max_epochs={epochs}"]
    accuracies, cpu = [], []
    for flags in (Asked(sampler="random", sampler_seed=sampler_seed), Asked(sampler_seed=sampler_seed, pruner=pruner)):
        asked, _ = search.read(arguments, flags)
        failures = trials.advance(asked, Budget(trials=num_trials), 1)
        assert not failures, failures
        found = journal.open_study(asked).trials
        best = winners.best(asked)[0]
        folders = [RunFolder.of(asked.config_of(journal.proposed(asked, trial))) for trial in found]
        ended = [folder.result() or folder.pruned() for folder in folders]
        cpu.append(sum(one.cpu_s for one in ended if one))  # both begin with the same ten points, which count in both
        whole = sum(trial.state.name == "COMPLETE" for trial in found)
        print(f"{flags.sampler}, pruner {flags.pruner}: {whole} of {len(found)} whole, {cpu[-1]:.0f} CPU s, best "
              f"val/acc {best.values[0]:.4f} by {' '.join(best.proposed)}", flush=True)  # fmt: skip
        seeds = ",".join(map(str, FRESH_SEEDS))
        command = ["train", "-m", *asked.fixed, *best.proposed, f"seed={seeds}"]
        subprocess.run([sys.executable, "-m", "snn_exp", *command], check=True, stdout=subprocess.DEVNULL)
        tested: dict[int, float] = {}
        for fresh in FRESH_SEEDS:
            config = compose([*asked.fixed, *best.proposed, f"seed={fresh}"])
            result = RunFolder.of(config).result()
            assert result is not None
            tested[fresh] = result.metrics["test/acc"]
        print(f"  test/acc on seeds {seeds}: {' '.join(f'{value:.4f}' for value in tested.values())}", flush=True)
        accuracies.append(tested)
    print(f"CPU time of the fits: {cpu[1] / cpu[0]:.2f} of that of the random trials")
    by = paired_difference(accuracies[1], accuracies[0])
    assert by is not None
    print(f"test/acc, TPE with pruning less random, {by.n} seeds: {by.mean:+.4f} ({by.low:+.4f} to {by.high:+.4f})")


def curves_of(num_trials: int, sampler_seed: int, epochs: int) -> list[list[float]]:
    """Train random trials whole, and return the validation accuracies after each epoch of each."""
    arguments = [*BASE, *SPACE, "optim.batch_size=16", f"trainer.max_epochs={epochs}"]
    asked, _ = search.read(arguments, Asked(sampler="random", sampler_seed=sampler_seed))
    failures = trials.advance(asked, Budget(trials=num_trials), 1)
    assert not failures, failures
    found = journal.open_study(asked).trials
    folders = [RunFolder.of(asked.config_of(journal.proposed(asked, trial))) for trial in found]
    return [[float(row["val/acc"]) for row in folder.epochs()] for folder in folders]


def replay(curves: list[list[float]], pruner: BasePruner) -> tuple[float, float]:
    """Return the share of the epochs that a pruner leaves, and how much of the best accuracy it loses."""
    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=RandomSampler(seed=0))
    num_trained, best = 0, 0.0
    for curve in curves:
        trial = study.ask()
        for epoch, accuracy in enumerate(curve, 1):
            trial.report(accuracy, epoch)
            if trial.should_prune() and epoch < len(curve):
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, max(curve))
            best = max(best, *curve)
        num_trained += epoch
    return num_trained / sum(map(len, curves)), max(map(max, curves)) - best


def replayed(num_trials: int, sampler_seed: int, epochs: int) -> None:
    """Replay pruners on the curves of whole trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = curves_of(num_trials, sampler_seed, epochs)
    warmups = {f"median from epoch {first}": first for first in sorted({max(1, epochs // n) for n in (6, 4, 3, 2)})}
    pruners: dict[str, Callable[[], BasePruner]] = {
        name: functools.partial(MedianPruner, n_startup_trials=NUM_UNPRUNED, n_warmup_steps=first)
        for name, first in warmups.items()
    }
    pruners["hyperband"] = functools.partial(
        HyperbandPruner, min_resource=1, max_resource=epochs, reduction_factor=REDUCTION
    )
    print(f"{num_trials} random trials of sampler seed {sampler_seed}, best val/acc {max(map(max, curves)):.4f}")
    for name, make in pruners.items():
        found = [replay(random.Random(order).sample(curves, len(curves)), make()) for order in range(40)]
        kept = sum(loss == 0 for _, loss in found)
        print(f"  {name}: {fmean(cost for cost, _ in found):.2f} of the epochs, keeps the best in {kept} of 40 orders, "
              f"loses {100 * fmean(loss for _, loss in found):.2f} points on average", flush=True)  # fmt: skip


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("shared", "pruned", "replayed"))
    parser.add_argument("--trials", type=int, help="200 of shared, 40 of the others")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pruner", default="median")
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        os.environ.setdefault("SNN_EXP_OUTPUT", str(Path(root)))
        if given.which == "shared":
            shared(given.trials or 200, given.kills, given.seed)
        elif given.which == "replayed":
            replayed(given.trials or 40, given.seed, given.epochs)
        else:
            pruned(given.trials or 40, given.seed, given.pruner, given.epochs)


if __name__ == "__main__":
    main()
