import itertools

import torch
from chains import chain

from joslim.search.cube import WidthCube
from joslim.widths import ChannelGroup, WidthSpace


class TestCube:
    def test_levels_are_the_counts_that_the_group_rounds_to(self):
        for full, divisor, smallest in itertools.product((16, 18, 64), (1, 2, 8), (8, 16)):
            group = ChannelGroup("g", full, smallest, divisor, ("g",))
            if smallest == full:
                continue
            cube = WidthCube(WidthSpace((group,)))
            levels = torch.arange(int(cube.num_levels)).unsqueeze(1)
            counts = {cube.widths(level)[0] for level in levels.tolist()}
            rounded = {group.round(count) for count in range(smallest, full + 1)}
            assert counts == rounded
            assert cube.encode([(count,) for count in sorted(counts)]).equal(cube.at_levels(levels))

    def test_channels_inverts_encode_and_keeps_frozen_groups_full(self):
        space = chain(3)
        cube = WidthCube(space)
        widths = [space.full, space.smallest, (3, 24, 40, 64, 3)]
        assert cube.channels(cube.encode(widths)).tolist() == [list(w) for w in widths]

    def test_rounds_to_the_nearest_or_by_threshold(self):
        cube = WidthCube(WidthSpace((ChannelGroup("g", 10, 6, 2, ("g",)),)))
        X = torch.tensor([[0.0], [0.2], [0.3], [0.9], [1.0]], dtype=torch.float64)
        assert cube.round(X, torch.tensor(0.5)).flatten().tolist() == [0, 0, 1, 2, 2]
        assert cube.round(X, torch.tensor(0.3)).flatten().tolist() == [0, 1, 1, 2, 2]
        assert cube.round(X, torch.tensor(1.0)).flatten().tolist() == [0, 0, 0, 1, 2]
