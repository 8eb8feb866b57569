"""Which layers stay float: those that win back most of the output for each millisecond that they cost.

Every layer is tried alone: the network in float32 but for this layer, which gives its effect on the output. Its price
is what it takes longer in float32. In the order of effect / price, layers are kept until the goal is reached; the count
is doubled until it is and then halved down, so that few networks are run.
"""
from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from layers.layers_to_keep import fewest
from quantization.evaluation import Change
from quantization.trials import Trials

MEASURED = "measured: of all layers among those that win most for their time"
COSINE_GOAL = 0.998  # where nothing else is asked for
BUDGET = 1 / 3  # of the time that int8 saves, which kept layers may take back where no drop is asked for
BORDER = 0.02  # of the time of all layers in int8: what a kept layer costs at least, where tensors change their type


@dataclasses.dataclass
class Layer:
    """effect: |int8 - float32|^2 / |float32|^2 of the output when this layer alone is int8; ms per crop; price: ms that
    it costs to keep."""

    name: str
    kind: str
    effect: float
    float_ms: float
    int8_ms: float
    price: float


@dataclasses.dataclass
class Point:
    """A network with the first `count` layers of the order kept: what their times add up to, and what was measured."""

    count: int
    ms: float
    change: Change
    passes: bool


@dataclasses.dataclass
class Found:
    """`layers` in the order in which they would be kept, none where none had to be; `tried` points, of which `chosen`
    is taken."""

    layers: List[Layer]
    goal: str
    tried: List[Point]
    chosen: Point

    @property
    def kept(self) -> Dict[str, str]:
        return {layer.name: MEASURED for layer in self.layers[:self.chosen.count]}

    def ms(self, count: int) -> float:
        """Of all layers that can be int8, with the first `count` in float32."""
        return sum(layer.int8_ms + layer.price * (place < count) for place, layer in enumerate(self.layers))

    def error(self, count: int) -> float:
        """What the effects of the layers that are int8 add up to."""
        return sum(layer.effect for layer in self.layers[count:])


@dataclasses.dataclass(frozen=True)
class Goal:
    """`error` of a change, at most `most`. `bounded`: kept layers may take back no more than BUDGET of the time that
    int8 saves."""

    text: str
    error: Callable[[Change], Optional[float]]
    most: float
    bounded: bool = False

    def reached(self, change: Change) -> bool:
        error = self.error(change)
        return error is not None and error <= self.most


def goal_of(max_drop: Optional[float], max_drop_oks: Optional[float]) -> Goal:
    if max_drop is not None:
        return Goal(f"AP drops by at most {max_drop:g} points", lambda change: change.drop_ap, max_drop)
    if max_drop_oks is not None:
        return Goal(f"OKS with float32 drops by at most {max_drop_oks:g}", lambda change: change.drop_oks, max_drop_oks)
    return Goal(f"cosine of at least {COSINE_GOAL} with float32", lambda change: 1 - change.cosine, 1 - COSINE_GOAL,
                True)


def order_layers(trials: Trials, method: str, times: Mapping[str, Tuple[float, float]]) -> List[Layer]:
    """`times` are those of float32 and of int8."""
    effects, border = trials.effects(method), BORDER * sum(fast for _, fast in times.values())
    layers = [Layer(node.name, node.op_type, effects[node.name], slow, fast, max(slow - fast, 0) + border)
              for node in trials.layers for slow, fast in [times[node.name]]]
    return sorted(layers, key=lambda layer: -layer.effect / layer.price)


def search(trials: Trials, method: str, goal: Goal, judge: Callable[[Mapping[str, str]], Change]) -> Found:
    """`judge` measures the network with these layers kept. The point of fewest layers that reaches the goal, or where
    none does the one whose error times milliseconds is least, as far as effects and prices tell; but none that was
    measured to be no better than one of fewer layers. Where everything may be int8, no layer is tried alone."""
    times, change = trials.times(method), judge({})
    nothing = Point(0, sum(fast for _, fast in times.values()), change, goal.reached(change))
    if nothing.passes:
        return Found([], goal.text, [nothing], nothing)
    found = Found(order_layers(trials, method, times), goal.text, [nothing], nothing)

    def try_count(count: int) -> Point:
        change = judge({layer.name: MEASURED for layer in found.layers[:count]})
        found.tried.append(Point(count, found.ms(count), change, goal.reached(change)))
        return found.tried[-1]

    most = affordable(found) if goal.bounded else len(found.layers) - 1
    best = fewest(try_count, most) if most else nothing
    if not best.passes:
        count = min(range(most + 1), key=lambda one: found.error(one) * found.ms(one))
        best = next((point for point in found.tried if point.count == count), None) or try_count(count)
    found.chosen = no_worse(best, found.tried, goal)
    return found


def no_worse(best: Point, tried: Sequence[Point], goal: Goal) -> Point:
    """Of `best` and the points of fewer layers, that of the least error, and of equals that of the fewest layers: one
    more layer in float32 can also do harm, where its error had made up for another's."""
    fewer = [point for point in tried if point.count <= best.count]
    errors = {point.count: goal.error(point.change) for point in fewer}
    return min(fewer, key=lambda point: (errors[point.count] is None, errors[point.count], point.count))


def affordable(found: Found) -> int:
    """How many layers can be kept within BUDGET."""
    limit = found.ms(0) + BUDGET * (found.ms(len(found.layers)) - found.ms(0))
    return max(count for count in range(len(found.layers)) if count == 0 or found.ms(count) <= limit)
