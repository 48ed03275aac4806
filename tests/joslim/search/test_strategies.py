import itertools
import json

import pytest
import torch
from chains import ChainCost, FirstGroups, chain, make, observed, true_loss

from joslim.errors import BudgetError, CheckpointError, ConfigError, DataError, WidthError


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

    def test_target_costs_rise_from_the_smallest_to_the_largest_that_keeps_to_the_limits(self):
        free = make("slim")
        limited = make("slim", limits=[(ChainCost(free.space), 0.6 * ChainCost(free.space).full)])
        for strategy in (free, limited):
            targets = [strategy.target_cost(position / 20) for position in range(21)]
            assert targets[0] == pytest.approx(strategy.smallest_cost)
            assert targets[-1] == pytest.approx(strategy.largest_cost)
            steps = [b - a for a, b in itertools.pairwise(targets)]
            assert 0 < steps[0] < steps[10] < steps[-1]

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
