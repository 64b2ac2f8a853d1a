"""The untrained task of a run, seeded, with its teacher: what Lightning trains."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.nn.kernels import Choice
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.teacher import require_the_split, teacher_of
from snn_exp.training import auto
from snn_exp.training.build import build_data, build_task, initialise, load_task
from snn_exp.training.classifier import Classifier
from snn_exp.training.log import quiet_libraries
from snn_exp.training.task import Classification


def prepare(config: ExperimentConfig, kernels: Choice) -> tuple[DataModule, Classification]:
    """Seed everything, then build the data and the untrained task of a run.

    Raises:
        UserError: the devices of the run cannot share every batch.
    """
    quiet_libraries()
    torch.set_num_threads(auto.threads(config).value)
    pl.seed_everything(config.seed, verbose=False)
    data = build_data(config)
    data.require_shares(config.trainer.devices)
    task = Classification.of(build_task(config, data, kernels))
    initialise(task, config, data)
    return data, task


def load_teacher(folder: RunFolder, config: ExperimentConfig, data: DataModule) -> Classifier:
    """Load the network of the teacher of a run, after checking that it was trained on the same split."""
    require_the_split("teacher", folder, config, data.dataset.fingerprint)
    return load_task(folder, folder.trained_config(), data)


def teach(task: Classification, config: ExperimentConfig, data: DataModule) -> None:
    """Give the task the teacher of the config, if there is one."""
    if teacher := teacher_of(config):
        task.learn_from(load_teacher(teacher, config, data))
