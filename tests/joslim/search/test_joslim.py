import itertools

import pytest
import torch
from chains import ChainCost, chain, make, observed, true_loss

import joslim
from joslim.search import augmented_tchebyshev, create
from joslim.search.joslim import Joslim


class TestJoslim:
    def test_begins_with_uniform_widths_over_the_range_then_the_full_network(self):
        strategy = make("joslim", num_initial=10)
        widths = [strategy.ask() for _ in range(11)]
        assert widths[10] == strategy.space.full
        assert all(len(set(w[1:-1])) == 1 for w in widths)
        counts = sorted(w[1] for w in widths)
        assert counts[0] <= 28
        assert max(b - a for a, b in itertools.pairwise(counts)) <= 8

    def test_target_costs_are_drawn_over_the_whole_range(self):
        strategy = observed("joslim", n=10, num_initial=0)
        strategy.num_asked = 1
        fractions = sorted(strategy.cost.fraction(strategy.ask()) for _ in range(12))
        assert fractions[0] < 0.35
        assert fractions[-1] > 0.85
        assert max(b - a for a, b in itertools.pairwise(fractions)) < 0.3

    @pytest.mark.parametrize("d", [4, 12])
    def test_costs_the_target(self, d):
        strategy = observed("joslim", d=d)
        for target in (0.17, 0.3, 0.55, 0.8, 0.97):
            fraction = strategy.cost.fraction(strategy.ask(target))
            assert fraction == pytest.approx(target, abs=0.01 + 1e-9)

    def test_comes_as_near_as_a_coarse_grid_allows(self):
        space = chain(2, full=4, divisor=1, smallest=1)
        cost = ChainCost(space)
        strategy = create("joslim", space=space, cost=cost, seed=0)
        for widths in (space.smallest, space.full):
            strategy.tell(widths, true_loss(space, widths))
        allowed = [(3, a, b, 3) for a, b in itertools.product(range(1, 5), repeat=2)]
        for target in (0.25, 0.5, 0.7):
            nearest = min(abs(cost.fraction(w) - target) for w in allowed)
            assert abs(cost.fraction(strategy.ask(target)) - target) <= max(nearest, 0.01) + 1e-9

    def test_proposal_minimises_the_scalarisation_at_its_trade_off(self):
        strategy = observed("joslim", n=40)
        observed_X = strategy._cube.encode(strategy.history.widths)
        generator = torch.Generator().manual_seed(5)
        random = [strategy.space.random(generator) for _ in range(20_000)]
        weights = []
        for target in (0.3, 0.5, 0.8):
            proposal = strategy.propose(target, generator)
            X = strategy._cube.encode([proposal.widths, *random])
            costs = strategy.cost.fraction(strategy._cube.channels(X))
            seen = strategy.cost.fraction(strategy._cube.channels(observed_X))
            T = augmented_tchebyshev(
                strategy._surrogate.optimistic(X),
                (costs - seen.mean()) / seen.std(),
                proposal.tradeoff_weight,
                proposal.reference,
            )
            assert T[0] <= T[1:].min() + 0.01
            weights.append(proposal.tradeoff_weight)
        assert 1 > weights[0] > weights[1] > weights[2] > 0

    def test_beats_uniform_widths_where_groups_differ(self):
        strategy = observed("joslim", n=40, d=8)
        uniform = make("slim", d=8)
        for target in (0.3, 0.5, 0.7):
            widths, rival = strategy.ask(target), uniform.ask(target)
            assert true_loss(strategy.space, widths) < true_loss(strategy.space, rival)

    def test_one_round_does_not_repeat_itself(self):
        strategy = observed("joslim")
        asked = [strategy.ask(0.5) for _ in range(4)]
        assert len(set(asked)) == 4

    def test_what_keeps_looking_best_is_trained_again(self):
        strategy = observed("joslim")
        asked = []
        for _ in range(12):
            asked.append(strategy.ask(0.5))
            strategy.tell(asked[-1], true_loss(strategy.space, asked[-1]))
        assert len(set(asked)) < len(asked)

    def test_aims_without_a_model_until_two_observations(self):
        strategy, slim = make("joslim"), make("slim")
        assert strategy.ask(0.5) == slim.ask(0.5)
        strategy.tell(strategy.space.full, 1.0)
        assert strategy.ask(0.5) == slim.ask(0.5)

    @pytest.mark.parametrize("losses", [(1.0, 1.0), (1.0, 2.0), (0.0, 0.0)])
    def test_two_observations_suffice(self, losses):
        strategy = make("joslim")
        strategy.tell(strategy.space.smallest, losses[0])
        strategy.tell(strategy.space.full, losses[1])
        assert strategy.cost.fraction(strategy.ask(0.5)) == pytest.approx(0.5, abs=0.01 + 1e-9)

    def test_does_not_depend_on_the_number_of_threads(self):
        num_threads = torch.get_num_threads()
        strategies = [observed("joslim", n=200) for _ in range(2)]
        proposed = []
        for strategy, count in zip(strategies, (1, 2), strict=True):
            torch.set_num_threads(count)
            try:
                proposed.append(strategy.ask(0.5))
                assert torch.get_num_threads() == count
            finally:
                torch.set_num_threads(num_threads)
        assert proposed[0] == proposed[1]
        hyperparameters = [strategy.state_dict()["hyperparameters"] for strategy in strategies]
        assert hyperparameters[0] == hyperparameters[1]

    def test_works_where_gradients_are_off(self):
        strategy, same = observed("joslim", n=5), observed("joslim", n=5)
        with torch.no_grad():
            widths = strategy.ask(0.4)
        assert widths == same.ask(0.4)

    @pytest.mark.parametrize("name", ["macs", "params", "memory"])
    def test_any_cost_of_a_real_network(self, name):
        model = joslim.networks.create("resnet8", num_classes=10)
        network = joslim.slimmable(model, torch.zeros(2, 3, 32, 32))
        cost = joslim.costs.COSTS[name](network)
        strategy = Joslim(network.space, cost, seed=0)
        generator = torch.Generator().manual_seed(0)
        for widths in [network.space.random(generator) for _ in range(10)]:
            strategy.tell(widths, true_loss(network.space, widths))
        smallest = cost.fraction(network.space.smallest)
        for position in (0.1, 0.5, 0.9):
            target = smallest + position * (1 - smallest)
            widths = strategy.ask(target)
            assert network.space.check(widths) == widths
            assert cost.fraction(widths) == pytest.approx(target, abs=0.01 + 1e-9)
