import itertools
import json

import pytest
import torch

import joslim
from joslim.errors import BudgetError, CheckpointError, ConfigError, DataError, WidthError
from joslim.search import Reference, augmented_tchebyshev, create
from joslim.search.cube import WidthCube
from joslim.search.joslim import Joslim
from joslim.search.scalarization import tradeoff_weight_through
from joslim.search.surface import minimise, project
from joslim.widths import ChannelGroup, WidthSpace


class ChainCost:
    """MACs of a chain of 1x1 convolutions: the sum of products of neighbouring widths."""

    name = "macs"

    def __init__(self, space):
        self.space = space
        self.full, self.smallest = self(space.full), self(space.smallest)

    def __call__(self, widths):
        if not isinstance(widths, torch.Tensor):
            return round(self(torch.tensor([widths], dtype=torch.float64)).item())
        return (widths[:, 1:] * widths[:, :-1]).sum(1) + widths[:, 0]

    def fraction(self, widths):
        return self(widths) / self.full


class FirstGroups(ChainCost):
    """Channels of the first half of the groups."""

    name = "params"

    def __call__(self, widths):
        if not isinstance(widths, torch.Tensor):
            return round(self(torch.tensor([widths], dtype=torch.float64)).item())
        return widths[:, : len(self.space) // 2].sum(1)


def chain(d, full=64, divisor=4, smallest=24):
    """``d`` searchable groups between a frozen first one and a frozen last one."""
    ends = [ChannelGroup(name, 3, 3, 1, (name,), frozen="image") for name in ("in", "out")]
    groups = [ChannelGroup(f"g{i}", full, smallest, divisor, (f"g{i}",)) for i in range(d)]
    return WidthSpace((ends[0], *groups, ends[1]))


def true_loss(space, widths):
    """Falls with every width; early groups matter most."""
    multipliers = space.multipliers(widths)[list(space.searchable)]
    relevance = torch.linspace(2.0, 0.2, len(multipliers), dtype=torch.float64)
    return float((relevance * torch.exp(-3 * multipliers)).mean())


def make(name, d=4, seed=0, **options):
    space = chain(d)
    return create(name, space=space, cost=ChainCost(space), seed=seed, **options)


def observed(name, n=30, d=4, seed=0, **options):
    """A strategy that was told ``n`` random widths and both ends."""
    strategy = make(name, d, seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    random = [strategy.space.random(generator) for _ in range(n)]
    for widths in (strategy.space.smallest, strategy.space.full, *random):
        strategy.tell(widths, true_loss(strategy.space, widths))
    return strategy


class TestScalarization:
    def test_hand_worked(self):
        losses, costs = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
        T = augmented_tchebyshev(losses, costs, 0.25, Reference(-1.0, -2.0))
        torch.testing.assert_close(T, torch.tensor([1.5 + 2e-6, 1.0 + 1.75e-6]))

    def test_both_terms_are_equal_at_the_trade_off_through_a_point(self):
        reference = Reference(-3.0, -4.0)
        weight = tradeoff_weight_through(0.5, -1.0, reference)
        assert (1 - weight) * (0.5 - reference.loss) == pytest.approx(
            weight * (-1.0 - reference.cost)
        )

    def test_sweeping_the_trade_off_walks_along_the_front(self):
        costs = torch.linspace(0, 1, 101, dtype=torch.float64)
        losses = (1 - costs).square()
        for i in range(5, 100, 10):
            weight = tradeoff_weight_through(losses[i].item(), costs[i].item(), Reference())
            assert augmented_tchebyshev(losses, costs, weight, Reference()).argmin() == i


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


class TestSurface:
    def test_projection_hits_the_target_and_fixes_points_on_the_surface(self):
        cube, cost = WidthCube(chain(5)), ChainCost(chain(5))

        def fraction(X):
            return cost.fraction(cube.channels(X))

        X = torch.rand(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for target in (fraction(0 * X[:1]).item(), 0.3, 0.9, 1.0):
            projected = project(2 * X - 0.5, fraction, target)
            torch.testing.assert_close(
                fraction(projected), torch.full((50,), target).double(), atol=1e-5, rtol=0
            )
            torch.testing.assert_close(
                project(projected, fraction, target), projected, atol=1e-5, rtol=0
            )

    def test_minimise_solves_a_linear_programme(self):
        """Linear loss and cost make a fractional knapsack: fill the best gain per cost first."""
        gain = torch.tensor([5.0, 1.0, 4.0, 2.0], dtype=torch.float64)
        price = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
        X = torch.rand(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        X = project(X, lambda X: X @ price, 0.5)
        X, values = minimise(X, lambda X: -X @ gain, lambda X: X @ price, 0.5, 40)
        best = torch.tensor([1.0, 0.0, 1.0, 2 / 3], dtype=torch.float64)
        torch.testing.assert_close(X[values.argmin()], best, atol=1e-4, rtol=0)
        assert values.max() < -10.3


class TestEveryStrategy:
    @pytest.mark.parametrize("name", ["joslim", "slim", "two-stage", "tpe"])
    def test_continues_from_json_as_if_never_stopped(self, name):
        strategy = make(name, seed=3)
        for _ in range(6):
            widths = strategy.ask()
            strategy.tell(widths, true_loss(strategy.space, widths))
        strategy.ask(0.5)  # stopped in the middle of a round: fitted, one proposal pending
        restored = make(name, seed=0)
        restored.load_state_dict(json.loads(json.dumps(strategy.state_dict())))
        for target in (0.5, None, 0.7):
            widths = strategy.ask(target)
            assert restored.ask(target) == widths
            strategy.tell(widths, true_loss(strategy.space, widths))
            restored.tell(widths, true_loss(strategy.space, widths))
        assert restored.state_dict() == strategy.state_dict()

    @pytest.mark.parametrize("name", ["joslim", "slim", "two-stage", "tpe"])
    def test_seeds_differ_and_repeat(self, name):
        def asked(seed):
            strategy = observed(name, n=3, **({} if name == "slim" else {"num_initial": 0}))
            strategy.seed = seed
            return [strategy.ask() for _ in range(4)]

        assert asked(1) == asked(1)
        assert asked(1) != asked(2)

    @pytest.mark.parametrize("name", ["joslim", "slim", "two-stage", "tpe"])
    @pytest.mark.parametrize("target", [0.05, 1.2])
    def test_a_target_that_no_sub_network_has_is_refused(self, name, target):
        strategy = make(name)
        smallest = f"{strategy.cost.fraction(strategy.space.smallest):.4f}"
        with pytest.raises(
            BudgetError, match=rf"target_cost is {target:.4f} .* macs; expected {smallest} "
        ):
            strategy.ask(target)

    @pytest.mark.parametrize("name", ["joslim", "slim", "two-stage", "tpe"])
    def test_ends_of_the_range(self, name):
        strategy = observed(name)
        assert strategy.ask(1.0) == strategy.space.full
        low = strategy.cost.fraction(strategy.space.smallest)
        assert strategy.cost.fraction(strategy.ask(low)) <= low + 0.02

    @pytest.mark.parametrize("name", ["joslim", "slim", "two-stage", "tpe"])
    def test_limits_hold_for_every_proposal(self, name):
        free = observed(name, n=8)
        first = FirstGroups(free.space)
        limited = observed(name, n=8, limits=[(first, 0.6 * first.full)])
        targets = [None] * 4 + [0.3, 0.5, 0.7, 0.9]
        assert any(first(free.ask(target)) > 0.6 * first.full for target in targets)
        for target in targets:
            widths = limited.ask(target)
            assert first(widths) <= 0.6 * first.full
            assert limited.keeps_limits(widths)
        reachable = limited.largest_cost - 0.05
        if name in ("joslim", "tpe"):
            assert abs(limited.cost.fraction(limited.ask(reachable)) - reachable) <= 0.011

    def test_a_limit_below_the_smallest_sub_network_is_refused(self):
        with pytest.raises(BudgetError, match=r"limit of macs is 1, but the smallest .* has 1875"):
            make("slim", limits=[(ChainCost(chain(4)), 1)])

    def test_unknown_name(self):
        with pytest.raises(
            ConfigError, match="strategy is 'random'; expected one of joslim, slim, two-stage"
        ):
            make("random")

    def test_unusable_observations_are_refused(self):
        strategy = make("slim")
        with pytest.raises(WidthError, match="frozen at 3"):
            strategy.tell((1, *strategy.space.full[1:]), 1.0)
        with pytest.raises(DataError, match="is nan"):
            strategy.tell(strategy.space.full, float("nan"))

    def test_state_of_another_strategy(self):
        with pytest.raises(CheckpointError, match="is of strategy 'slim'; expected 'joslim'"):
            make("joslim").load_state_dict(make("slim").state_dict())

    def test_only_two_stage_searches_after_training(self):
        assert [make(name).search_after_training for name in ("joslim", "slim", "two-stage")] == [
            False,
            False,
            True,
        ]


class TestSlim:
    def test_draws_and_aims_at_uniform_widths_only(self):
        strategy = make("slim")
        widths = [strategy.ask() for _ in range(30)] + [strategy.ask(t) for t in (0.2, 0.5, 1.0)]
        assert all(len(set(w[1:-1])) == 1 for w in widths)
        assert len(set(widths)) >= 8

    def test_aims_at_the_nearest_uniform_cost(self):
        strategy = make("slim")
        uniform = [strategy.space.uniform(m / 64) for m in range(24, 65, 4)]
        for target in (0.2, 0.37, 0.61, 0.98):
            nearest = min(uniform, key=lambda w: abs(strategy.cost.fraction(w) - target))
            assert strategy.ask(target) == nearest


class TestTwoStage:
    def test_draws_independent_widths(self):
        strategy = make("two-stage")
        drawn = torch.tensor([strategy.ask() for _ in range(200)])[:, 1:-1].double()
        assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.25

    def test_aims_as_joslim_does(self):
        assert observed("two-stage").ask(0.5) == observed("joslim").ask(0.5)


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

    def test_one_round_does_not_repeat_itself_or_the_history(self):
        strategy = observed("joslim")
        asked = [strategy.ask(0.5) for _ in range(4)]
        assert len(set(asked)) == 4
        assert not set(asked) & set(strategy.history.widths)

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
