"""The functions that a person calls from Python: as few as the commands, with the same words and the same errors.

`import snn_exp` offers them; each imports torch, Lightning and Hydra when it is called, and not before.

Shapes: B samples, C channels, H W space, K classes; frames and series have T steps after B.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from snn_exp.config.experiment import ExperimentConfig
    from snn_exp.runs.run_files import Result
    from snn_exp.training.build import DataSpec
    from snn_exp.training.classifier import Classifier
    from snn_exp.training.predict import Prediction

Overrides = str | Sequence[str]


def build(overrides: Overrides = (), data_spec: DataSpec | None = None) -> Classifier:
    """Build the untrained network of a config, with the weights that a run of that seed starts from.

    Call it on pixels [B, C, H, W] in [0, 1] for logits [B, K]; `.network` reads encoded steps [T, B, C, H, W]. It is a
    `torch.nn.Module`, so a training loop of one's own can take it from here. torch's generators are left as they were.

    Args:
        overrides: as on the command line: words in a list, or in one string.
        data_spec: shape, classes and pixel statistics of the data; None reads them from the data set of the config.

    Raises:
        UserError: the overrides or the data_spec are refused; the data are missing; the weights are set by a batch of
            the data, as by init=lsuv, although only data_spec is given.

    Example:
        >>> import torch
        >>> import snn_exp
        >>> network = snn_exp.build("neuron=lif depth=d8", snn_exp.DataSpec(in_shape=(3, 32, 32), num_classes=10))
        >>> network(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    import torch

    from snn_exp.training import build as parts
    from snn_exp.training import preflight

    config = _composed(overrides)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if data_spec is not None:
            _require_sensible(data_spec)
            task = parts.assemble(config, data_spec)
            parts.initialise(task, config)
        else:
            preflight.require_data([config])
            data = parts.build_data(config)
            task = parts.build_task(config, data)
            parts.initialise(task, config, data)
    return task


def train(overrides: Overrides = (), *, echo: bool = False) -> Result:
    """Train one run and store it, or return the stored result if that was done before.

    As `snn-exp train`: the run is found by its identity, resumes where it was interrupted, and reads its test set once.
    It seeds all generators and sets the number of torch's threads.

    Args:
        overrides: as on the command line: words in a list, or in one string. For a sweep call it once per run.
        echo: print one line per epoch.

    Returns:
        `run_id`, `status`, and `metrics` such as test/acc, a fraction, and test/firing_rate, spikes per neuron and time
        step.

    Raises:
        UserError: the overrides are refused; the data are missing; this machine lacks what the run asks for.

    Example:
        >>> import snn_exp
        >>> result = snn_exp.train("neuron=s2nn network.width=4 trainer.max_epochs=1 logger=none")
        >>> result.status, 0 < result.metrics["test/firing_rate"] < 1
        ('done', True)
    """
    from snn_exp.files import require_writable
    from snn_exp.runs.folder import RunFolder
    from snn_exp.runs.paths import output_root
    from snn_exp.training import preflight

    config = _composed(overrides)
    if not RunFolder.of(config).is_complete(config):
        preflight.require(config)
        preflight.require_data([config])
        require_writable(output_root())
    from snn_exp.training.train import run

    return run(config, echo=echo)


def load(run: str | Path, *, for_inference: bool = False) -> Classifier:
    """Load the trained network of a run from its stored config and weights; nothing is unpickled.

    Call it on pixels in [0, 1], or uint8, for logits; `.network` reads encoded steps, `.class_names` are those of the
    data. No data set is needed.

    Args:
        run: a run id, the beginning of one, or a run's folder.
        for_inference: fold the network and lay it out in the form that infers fastest on a CPU; it cannot be trained or
            measured then, and its logits differ by rounding (`snn_exp.export.inference`).

    Raises:
        UserError: there is no such run, or it has no weights.

    Example:
        >>> import numpy as np
        >>> import snn_exp
        >>> result = snn_exp.train("neuron=s2nn network.width=4 trainer.max_epochs=1 logger=none")
        >>> snn_exp.load(result.run_id)(np.zeros((2, 1, 8, 8), dtype=np.uint8)).shape
        torch.Size([2, 10])
    """
    from snn_exp.training.load import load as load_task

    task = load_task(run)
    if for_inference:
        from snn_exp.export.inference import for_inference as fastest

        task.network = fastest(task.network)
    return task


def predict(run: str | Path, samples: Any, *, resize: bool = False) -> list[Prediction]:
    """Return class, probability, spikes and energy of each sample, as `snn-exp predict` prints them.

    Args:
        run: a run id, the beginning of one, or a run's folder.
        samples: an array or a tensor [B, C, H, W], uint8 or floats in [0, 1]; or paths: a picture, a folder of them, an
            .npz file with x, or a list of these.
        resize: scale pictures to the size that the network reads.

    Raises:
        UserError: there is no such run, or it has no weights; a sample cannot be read, or does not fit.

    Example:
        >>> import numpy as np
        >>> import snn_exp
        >>> result = snn_exp.train("neuron=s2nn network.width=4 trainer.max_epochs=1 logger=none")
        >>> (one,) = snn_exp.predict(result.run_id, np.zeros((1, 1, 8, 8)))
        >>> one.sample, one.predicted in "0123456789", 0 <= one.probability <= 1
        ('0', True, True)
    """
    from snn_exp.data.given import GivenSamples
    from snn_exp.runs.find import find_run
    from snn_exp.training.load import load_checked
    from snn_exp.training.predict import predictions

    folder = find_run(str(run))
    config = folder.trained_config()
    task, check = load_checked(folder)
    if paths := _paths(samples):
        scale = resize or (bool(config.dataset.get("size")) and config.dataset["name"] == "images")
        given = GivenSamples(folder.path.name, check.in_shape, check.num_steps is not None, task.class_names, scale)
        return list(predictions(task, check, given.read(paths), config.energy))
    named = ((str(number), pixels, None) for number, pixels in enumerate(check.checked(samples)))
    return list(predictions(task, check, named, config.energy))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a network computes and spends on a batch; counts and energies are per sample, in the inference form.

    Args:
        rates: layer -> spikes per neuron and time step.
        firing_rate: of all neurons together.
        operations: count -> operations per sample, such as ac, mac, xnor and dense; defined in
            `snn_exp.metrics.operations.SynapticOperations`.
        energy: part of the network -> pJ per sample; defined in `snn_exp.metrics.energy.energy_pj`.
    """

    rates: Mapping[str, float]
    firing_rate: float
    operations: Mapping[str, float]
    energy: Mapping[str, float]

    @property
    def energy_pj(self) -> float:
        """Return the energy of a sample in all parts, pJ."""
        return sum(self.energy.values())


def measure(network: Classifier, x: Any, *, energy: str = "h45_fp32") -> Measurement:
    """Measure firing rates, operations and energy of a network on a batch, trained or not.

    The network is in evaluation mode meanwhile, and a random encoding draws the same each time.

    Args:
        network: from `build` or `load`.
        x: what it is called on, such as pixels [B, C, H, W] in [0, 1].
        energy: the profile of prices per operation; `snn-exp options energy` lists them.

    Raises:
        UserError: there is no such profile; the samples do not fit a loaded network; it was loaded for inference.

    Example:
        >>> import torch
        >>> import snn_exp
        >>> network = snn_exp.build("neuron=lif", snn_exp.DataSpec(in_shape=(1, 8, 8), num_classes=10))
        >>> measured = snn_exp.measure(network, torch.rand(4, 1, 8, 8))
        >>> int(measured.operations["dense"]), 0 < measured.firing_rate < 1
        (2986624, True)
    """
    import numpy as np
    import torch

    from snn_exp.errors import UserError
    from snn_exp.export.inference import Inferring
    from snn_exp.metrics.energy import energy_pj
    from snn_exp.metrics.operations import FiringRate, SynapticOperations

    if isinstance(network.network, Inferring):
        raise UserError(
            "a network that was loaded for inference has no neurons to count spikes of; load it without for_inference"
        )
    profile = _composed([f"energy={energy}"]).energy
    rate, operations, was_training = FiringRate(network.network), SynapticOperations(network.network), network.training
    network.eval()
    try:
        with torch.random.fork_rng(), torch.inference_mode(), rate.listening(), operations.listening():
            torch.manual_seed(network.seed)
            network(torch.from_numpy(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x)
    finally:
        network.train(was_training)
    counts = {name: float(count) for name, count in operations.compute().items()}
    named = {f"test/synops_{name}": count for name, count in counts.items()}
    return Measurement(rate.by_layer(), float(rate.compute()), counts, energy_pj(named, "test", profile))


def list_runs(filters: Overrides = ()) -> pd.DataFrame:
    """Return the stored runs as a table, with one row per run: state, choices, metrics and costs.

    Args:
        filters: as of `snn-exp runs`: words such as neuron=lif,plif or state=done, in a list or in one string.

    Returns:
        Indexed by run id. Choices are columns such as neuron, neuron.tau and seed, metrics such as test/acc; NaN stands
        where a run has no value.

    Raises:
        UserError: a filter that is not valid.

    Example:
        >>> import snn_exp
        >>> _ = snn_exp.train("neuron=s2nn network.width=4 trainer.max_epochs=1 logger=none")
        >>> snn_exp.list_runs("neuron=s2nn network.width=4").groupby("neuron")["test/acc"].count().to_dict()
        {'s2nn': 1}
    """
    import pandas as pd

    from snn_exp.runs.store import stored_runs

    found = stored_runs(_words(filters))
    rows = []
    for run in found:
        row: dict[str, Any] = dict(run.stored.chosen)
        if run.result is not None:
            row |= {key: value for key, value in run.result.metrics.items() if key.count("/") < 2}
            row |= {key: getattr(run.result, key) for key in ("best_epoch", "duration_s", "cpu_s", "finished_at")}
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index([run.name for run in found], name="run_id"))


@dataclasses.dataclass(frozen=True)
class Reported:
    """A report that was written.

    Args:
        headline: the answer in a sentence or two.
        table: one row per line of the comparison: means, spreads, n, and the differences with intervals and p values.
        files: what was written.
    """

    headline: str
    table: pd.DataFrame
    files: Sequence[Path]


def report(
    what: Overrides,
    *,
    by: Iterable[str] = (),
    metric: str | None = None,
    versus: str = "",
    margin: float | None = None,
    energy: str = "",
    formats: Sequence[str] = ("html",),
    folder: str | Path | None = None,
) -> Reported:
    """Report on the stored runs that agree with filters, or on a study, as `snn-exp report`; nothing is trained.

    Args:
        what: filters such as neuron=lif,plif, in a list or in one string; or the name of a study.
        by: choices that separate the lines; empty: all in which the runs differ.
        metric: what is compared; None: test/acc, or the metric of the study.
        versus: key=value of the line that the others are compared with, or one of the study's methods.
        margin: of equivalence tests, in the metric's unit.
        energy: the profile that prices stored runs; "": the default one.
        formats: of html, md, tex, csv, png, pdf.
        folder: where the files go; None: a folder of the output folder, named after the question.

    Raises:
        UserError: no finished run agrees; a filter, metric or format that is not valid.

    Example:
        >>> import snn_exp
        >>> _ = snn_exp.train("neuron=s2nn network.width=4 trainer.max_epochs=1 logger=none")
        >>> made = snn_exp.report("neuron=s2nn network.width=4", formats=["csv"])
        >>> made.table["n"].tolist(), [path.name for path in made.files]
        ([1], ['report.csv'])
    """
    from snn_exp.config.command_line import command_line
    from snn_exp.files import require_writable
    from snn_exp.reporting import documents, tables
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import readme, runner, spec

    words = _words(what)
    options = {"by": ",".join(by), "metric": metric or "", "versus": versus, "margin": margin or "", "energy": energy}
    chosen = {key: value for key, value in options.items() if value}
    flags = [word for key, value in chosen.items() for word in (f"--{key}", str(value))]
    asked = documents.Asked(
        command_line("report", [*words, *flags]),
        metric=metric, by=list(by), versus=versus, margin=margin, energy=energy,
    )  # fmt: skip
    documents.require_formats(formats)
    if len(words) == 1 and "=" not in words[0]:
        made = readme.report_of(runner.survey(spec.load(words[0])), asked)
    else:
        made = documents.of_runs(words, asked)
    if folder is None:
        require_writable(output_root())
        name = documents.folder_name([*words, *(f"{key}={value}" for key, value in chosen.items())])
        folder = output_root() / "reports" / name
    files = documents.write(made, Path(folder), list(formats))
    return Reported(made.headline, tables.numbers(made.comparison), files)


def _words(given: Overrides) -> list[str]:
    """Return overrides as words."""
    from snn_exp.errors import UserError
    from snn_exp.files import printable

    if not isinstance(given, str):
        return list(given)
    try:
        return shlex.split(given)
    except ValueError:
        raise UserError(
            f"{printable(given, 200)} has a quote that is not closed; close it, or give the overrides as a list"
        ) from None


def _require_sensible(spec: DataSpec) -> None:
    """Refuse a shape, a number of classes or statistics that no data set has."""
    from pydantic import ValidationError

    from snn_exp.errors import UserError
    from snn_exp.export.metadata import SeenData
    from snn_exp.runs.validation import first_fault

    given = {name: getattr(value, "tolist", lambda value=value: value)() for name, value in vars(spec).items()}
    try:
        SeenData.model_validate({**given, "in_shape": list(spec.in_shape)})
    except ValidationError as error:
        raise UserError(
            f"the data_spec cannot be: {first_fault(error)}; type snn_exp.DataSpec(in_shape=(3, 32, 32), "
            f"num_classes=10), say"
        ) from None


def _composed(overrides: Overrides) -> ExperimentConfig:
    from snn_exp.config.compose import compose

    return compose(_words(overrides))


def _paths(samples: Any) -> list[str]:
    """Return the samples as paths, or an empty list if they are values."""
    if isinstance(samples, str | Path):
        return [str(samples)]
    is_list = isinstance(samples, list | tuple)
    return [str(path) for path in samples] if is_list and all(isinstance(each, str | Path) for each in samples) else []
