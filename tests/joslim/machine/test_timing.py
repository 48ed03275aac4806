import torch
from torch import nn

from joslim.machine.timing import latencies_ms, latency_ms


def test_latency_is_measured_on_one_thread_and_puts_threads_back():
    threads = torch.get_num_threads()
    assert latency_ms(nn.Linear(4, 4), torch.zeros(1, 4), repeats=3) > 0
    large, small = nn.Linear(2000, 2000), nn.Linear(2000, 2)
    slow, fast = latencies_ms([large, small], torch.zeros(1, 2000), repeats=5)
    assert slow > fast
    assert torch.get_num_threads() == threads
