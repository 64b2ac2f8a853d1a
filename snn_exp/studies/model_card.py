"""The model card of a packed run, in the form of Hugging Face: a head of YAML for machines, and a page. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from snn_exp import escaping
from snn_exp.config import schemas
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.metrics.energy import counted_split, energy_pj, joules, price_list
from snn_exp.runs.run_files import Result

TASK = "image-classification"


def model_card(config: ExperimentConfig, result: Result, manifest: Mapping[str, Any], licence: str) -> str:
    """Return the model card of a run that has weights.

    Args:
        config: of the run.
        result: of the run.
        manifest: how it was done.
        licence: of the weights, as on Hugging Face: mit, cc-by-4.0, other, ...
    """
    data = str(config.dataset["name"])
    metrics = result.metrics
    split = "test" if "test/acc" in metrics else "val"
    rate = metrics[f"{split}/firing_rate"]
    measured = [
        {"type": "accuracy", "name": f"{split} accuracy", "value": round(metrics[f"{split}/acc"], 6)},
        {"type": "firing_rate", "name": "spikes per neuron and time step", "value": round(rate, 6)},
    ]
    energy = ""
    if (counted := counted_split([metrics])) is not None:
        parts = {part: pj for part, pj in energy_pj(metrics, counted, config.energy).items() if pj}
        total = sum(parts.values())
        measured.append({"type": "energy_pj", "name": f"pJ per sample, {config.energy.name}", "value": round(total, 3)})
        shares = ", ".join(f"{part} {joules(pj)}" for part, pj in parts.items())
        energy = f"{joules(total)} per sample ({shares}); {price_list(config.energy)}; from counts, not measured"
    head = {
        "license": licence,
        "library_name": "snn_exp",
        "pipeline_tag": TASK,
        "tags": ["spiking-neural-network", str(config.neuron["name"]), str(config.norm["name"])],
        "datasets": [data],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": f"{config.label} {result.run_id}",
                "results": [
                    {
                        "task": {"type": TASK},
                        "dataset": {"type": data, "name": data, "split": split},
                        "metrics": measured,
                    }
                ],
            }
        ],
    }
    option = schemas.load()["dataset"].get(data)
    data_licence = str(option.traits["licence"]) if option and option.traits["licence"] else "not stated"
    versions = ", ".join(f"{name} {number}" for name, number in dict(manifest.get("versions", {})).items())
    facts = {
        "Data": f"{data}; licence of the data: {data_licence}",
        "Split": f"{result.split_fingerprint} (fingerprint of the samples of training and validation)",
        "Seed": str(config.seed),
        "Accuracy": f"validation {100 * metrics['val/acc']:.2f} %"
        + (f", test {100 * metrics['test/acc']:.2f} %" if "test/acc" in metrics else "; the test set was not read"),
        "Firing rate": f"{rate:.3f} spikes per neuron and time step",
        "Energy": energy or "not counted",
        "Time steps": str(config.num_steps),
        "Trained in": f"{result.cpu_s:.0f} s of CPU time, finished {result.finished_at}",
        "Made by": versions or "versions not recorded",
    }
    table = "\n".join(f"| {name} | {escaping.markdown(text)} |" for name, text in facts.items())
    choices = yaml.safe_dump(config.to_plain(), sort_keys=False, allow_unicode=True)
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n"
        f"# {escaping.markdown(config.label)}\n\n"
        f"Run {result.run_id} of snn_exp. One seed: what it reaches is no mean.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"## Use\n\n"
        f"`snn-exp unpack FILE` puts it among your runs; then\n\n"
        f'```python\nimport snn_exp\n\nnetwork = snn_exp.load("{result.run_id}")\nlogits = network(pixels)\n```\n\n'
        f"`snn-exp verify {result.run_id}` trains it again and compares.\n\n"
        f"## Config\n\n```yaml\n{choices}```\n"
    )
