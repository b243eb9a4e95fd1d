"""Methods on a tiny backbone, and short runs of them."""

import dataclasses

import numpy as np
import torch

from peftstudy import backbones, tasks, training
from peftstudy.methods import adapt, create
from peftstudy.specs import Training

TASK = tasks.create("classification")
SETTINGS = Training(epochs=3, batch_size=16, micro_batch_size=4, learning_rate=1e-2, select="last")
TRAIN, NONE = np.arange(96), np.arange(0)


def adapted(folder, name, options=(), seed=0, labels=()):
    method = create(name, options)
    loaded = backbones.load(folder, TASK, 3, seed, method.attention, labels)
    return method, adapt(method, loaded, backbones.read_shape(folder), seed)


def a_run_of(folder, name, options=(), **changes):
    method, result = adapted(folder, name, options)
    torch.manual_seed(0)
    return training.Run(result.model, method, TASK, dataclasses.replace(SETTINGS, **changes), 0)
