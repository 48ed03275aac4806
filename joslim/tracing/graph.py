"""The network as a graph: every operation with the shapes, and the MACs, of a run on one image."""

import operator
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from joslim.errors import TracingError
from joslim.modes import in_mode
from joslim.tracing import attributes
from joslim.tracing.channels import Unfollowed
from joslim.tracing.control_flow import Decisions, decided
from joslim.tracing.operators import Operators, note
from joslim.tracing.rewrites.attention import SelfAttention


@dataclass(frozen=True)
class Shape:
    """The sizes of a tensor that an operation gave."""

    sizes: tuple[int, ...]


def result_of(node: fx.Node) -> Any:
    """What ``node`` gave in the run: a `Shape` for a tensor, in whatever it was nested."""
    return node.meta["result"]


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The sizes of the tensor that ``node`` gave."""
    result = result_of(node)
    if not isinstance(result, Shape):
        raise Unfollowed("gives more than one tensor")
    return result.sizes


def measured_macs(node: fx.Node) -> int:
    """Half of what PyTorch's counter of floating-point operations counted in ``node``."""
    return node.meta["macs"]


def held_until(node: fx.Node) -> fx.Node:
    """The last node during which a variable of the running code holds the result of ``node``.

    Python keeps arguments until a call returns, and variables, whether or not they are read again.
    """
    return node.meta.get("held_until", node)


def memory_source(node: fx.Node) -> fx.Node | None:
    """The node whose memory the result of ``node`` shares; None if it has memory of its own."""
    return node.meta.get("memory_source")


@dataclass(frozen=True)
class Traced:
    """A network as a graph.

    Attributes:
        graph: Its operations, with what each gave.
        computed_with: Attributes of modules, ``(module, name)``, that code used in arithmetic.
    """

    graph: fx.Graph
    computed_with: frozenset[tuple[str, str]]


def build_graph(
    model: nn.Module,
    image: Tensor,
    known: Collection[type[nn.Module]],
    leaves: tuple[type[nn.Module], ...],
) -> Traced:
    """Trace ``model`` in eval mode and run it once on ``image``, ``(1, channels, height, width)``.

    Args:
        model: Left as it is.
        image: Decides the shapes; on the meta device, nothing is computed.
        known: Types of modules that are one operation each, besides those of `torch.nn`.
        leaves: Likewise, subclasses included.

    Raises:
        TracingError: If a module cannot be traced, does not run, or takes no part in the run.
    """
    own_attributes = set(vars(model))
    try:
        with in_mode(model, training=False):
            with attributes.named(dict(model.named_modules())) as uses:
                graph = _trace(_Tracer(known, leaves, Decisions(image, uses)), model)
                computed_with = frozenset(uses)
            graph_module = fx.GraphModule(model, graph)
            _Recorder(graph_module).run(image)
    except TracingError:
        raise
    except Exception as error:
        cause = str(error).partition("\n\nWhile executing")[0]
        raise TracingError(
            f"{type(model).__name__} does not run on {tuple(image.shape)}: {cause}"
        ) from error
    finally:
        for constant in set(vars(model)) - own_attributes:  # torch.fx leaves its constants there
            delattr(model, constant)
    _check_output(model, graph_module.graph)
    _check_all_parts_run(model, graph_module)
    return Traced(graph_module.graph, computed_with)


class _Proxy(fx.Proxy):
    """Stands for what an operation gives; knows how many there are if it gives several."""

    def __len__(self) -> int:
        assert isinstance(self.tracer, _Tracer)
        return self.tracer.length(self)


class _Tracer(fx.Tracer):
    """Follows buffers like parameters, and names the innermost module that cannot be traced."""

    proxy_buffer_attributes = True

    def __init__(
        self,
        known: Collection[type[nn.Module]],
        leaves: tuple[type[nn.Module], ...],
        decisions: Decisions,
    ) -> None:
        super().__init__()
        self._known = known
        self._leaves = leaves
        self._decisions = decisions

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_one_operation = type(m) in self._known or isinstance(m, self._leaves)
        return is_one_operation or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def length(self, obj: fx.Proxy) -> int:
        values = self._decisions.value_of(obj.node, self)
        if not isinstance(values, tuple | list):
            raise TypeError("len() of a tensor cannot be traced; x.shape[0] says the same")
        return len(values)

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        proxy = super().create_proxy(*args, **kwargs)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not fx.Tracer.trace.__code__:
            for value in tree_leaves(list(frame.f_locals.values())):
                if type(value) is _Proxy:  # subclasses make their node when it is asked for
                    value.node.meta["held_until"] = proxy.node
            frame = frame.f_back
        return proxy

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = self._decisions.value_of(obj.node, self)
        if not isinstance(answer, bool | int | float):
            return super().to_bool(obj)
        self.create_proxy("call_function", decided, (obj,), {})
        return bool(answer)

    def iter(self, obj: fx.Proxy) -> Iterator[fx.Proxy]:
        values = self._decisions.value_of(obj.node, self)
        if not isinstance(values, tuple | list):
            return super().iter(obj)
        return iter([operator.getitem(obj, i) for i in range(len(values))])

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if self._decisions.running:
            return attr_val.to("meta") if isinstance(attr_val, Tensor) else attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._decisions.running:
            return forward(*args, **kwargs)
        try:
            if isinstance(m, SelfAttention) and m.covers(*args, **kwargs):
                return forward(*args, **kwargs)
            return super().call_module(m, forward, args, kwargs)
        except TracingError:
            raise
        except Exception as error:
            kind = type(m).__name__
            raise TracingError(
                f"torch.fx cannot trace '{self.path_of_module(m)}' ({kind}): {error}; among the "
                f"leaves it runs as it is, and its widths stay: leaves=({kind},), or "
                f"'{type(m).__module__}:{kind}' where leaves go by name"
            ) from error


def _trace(tracer: fx.Tracer, model: nn.Module) -> fx.Graph:
    try:
        return tracer.trace(model)
    except TracingError:
        raise
    except Exception as error:
        raise TracingError(
            f"torch.fx cannot trace {type(model).__name__}: {error}; put what it cannot follow "
            "into a module of its own, and that module among the leaves"
        ) from error


class _Recorder(fx.Interpreter):
    """Notes the result, the memory and the MACs of every node.

    Attention runs as its plain matrix products, which the counter knows; with gradients enabled,
    so that no fused kernel for inference hides them. Its result is laid out as those kernels do it,
    heads beside channels, since that decides whether what follows is a copy.
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self._counter = FlopCounterMode(display=False)
        self._operators = Operators()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), self._counter, self._operators:
            return super().run(*args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        before = self._counter.get_total_flops()
        self._operators.ran.clear()
        result = super().run_node(n)
        note(n, self._operators, result, [self.env[source] for source in n.all_input_nodes])
        if n.target is F.scaled_dot_product_attention:
            result = result.transpose(-3, -2).contiguous().transpose(-3, -2)
        n.meta["memory_source"] = self._memory_source(n, result)
        n.meta["macs"] = (self._counter.get_total_flops() - before) // 2
        n.meta["result"] = _shapes(result)
        return result

    def _memory_source(self, node: fx.Node, result: Any) -> fx.Node | None:
        storages = _storages(result)
        sources = (n for n in node.all_input_nodes if storages & _storages(self.env[n]))
        return next(sources, None)


def _storages(result: Any) -> set[int]:
    leaves = tree_leaves(result)
    return {leaf.untyped_storage()._cdata for leaf in leaves if isinstance(leaf, Tensor)}


def _shapes(result: Any) -> Any:
    if isinstance(result, Tensor):
        return Shape(tuple(result.shape))
    if isinstance(result, tuple | list):
        return tuple(map(_shapes, result))
    if isinstance(result, dict):
        return {key: _shapes(value) for key, value in result.items()}
    return result


def _check_output(model: nn.Module, graph: fx.Graph) -> None:
    (output,) = (node for node in graph.nodes if node.op == "output")
    result = result_of(output)
    if not isinstance(result, Shape):
        what = f"a value of type {type(result).__name__}"
        if isinstance(result, tuple):
            what = f"a sequence of {len(result)}"
        elif isinstance(result, dict):
            what = f"a dict of {', '.join(map(repr, result))}"
        raise TracingError(
            f"{type(model).__name__} gives {what}; expected one tensor of logits, (batch, "
            "classes); pass a module that returns the one that is to be trained"
        )


def _check_all_parts_run(model: nn.Module, graph_module: fx.GraphModule) -> None:
    calls = [n for n in graph_module.graph.nodes if n.op in ("call_module", "get_attr")]
    reached = {str(node.target) for node in calls}
    for name, _ in model.named_parameters():
        path = name.split(".")
        if not any(".".join(path[: i + 1]) in reached for i in range(len(path))):
            raise TracingError(
                f"parameter '{name}' takes no part in evaluation, so what flows into it cannot be "
                "followed; build the network without it (torchvision: aux_logits=False)"
            )
