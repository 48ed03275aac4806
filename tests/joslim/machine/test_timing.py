import torch
from torch import nn

from joslim.machine.timing import time_models


def test_latency_is_measured_on_one_thread_and_puts_threads_back():
    threads = torch.get_num_threads()
    models = {"large": nn.Linear(2000, 2000), "small": nn.Linear(2000, 2).train()}
    found = time_models(models, torch.zeros(1, 2000), repeats=5)
    assert found["large"].milliseconds > found["small"].milliseconds > 0
    assert torch.get_num_threads() == threads
    assert not models["small"].training
