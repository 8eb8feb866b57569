"""Graphs put together from two: layers of the one beside those of the other, or in their place."""
from __future__ import annotations

import itertools
from typing import Dict, Iterable, List, Set, Tuple

from onnx import ModelProto, NodeProto, TensorProto, helper

from layers.graphs import copy_of, inputs_of


def isolate(host: ModelProto, guest: ModelProto, pairs: Dict[str, str],
            types: Dict[str, int]) -> Tuple[ModelProto, Dict[str, str]]:
    """`host`, and beside it every layer of `guest` once more, reading the results of the host's layers.

    pairs: the host's tensor -> the guest's; types: the element type of each of the guest's. Returns the graph, and
    the host's tensor -> the name of what the guest's layer makes of the host's inputs.
    """
    graft = Graft(guest, host, {theirs: mine for mine, theirs in pairs.items()}, types)
    results = {mine: theirs for mine, theirs in pairs.items() if mine not in inputs_of(host)}
    both = with_domains_of(guest, copy_of(host))
    both.graph.node.extend(graft.nodes_of(results.values()))
    both.graph.initializer.extend(graft.weights)
    return both, {mine: graft.prefix + theirs for mine, theirs in results.items()}


def transplant(host: ModelProto, guest: ModelProto, pairs: Dict[str, str], tensors: Iterable[str],
               types: Tuple[Dict[str, int], Dict[str, int]]) -> ModelProto:
    """`host` with the layers that make `tensors`, of the host, replaced by the guest's.

    pairs: the host's tensor -> the guest's; types: element types of the host's and of the guest's tensors.
    """
    graft = Graft(guest, host, {theirs: mine for mine, theirs in pairs.items()}, types[1])
    replaced = set(tensors)
    nodes: List[NodeProto] = []
    for node in host.graph.node:
        for name in replaced.intersection(node.output):
            nodes += graft.nodes_of([pairs[name]])
            nodes.append(helper.make_node("Cast", [graft.prefix + pairs[name]], [name], to=types[0][name]))
        kept = NodeProto()
        kept.CopyFrom(node)
        kept.output[:] = [f"{name}/replaced" if name in replaced else name for name in node.output]
        nodes.append(kept)
    mixed = with_domains_of(guest, copy_of(host))
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    mixed.graph.initializer.extend(graft.weights)
    return prune(mixed)


def with_domains_of(guest: ModelProto, host: ModelProto) -> ModelProto:
    """`host`, which may now hold the operators that the guest imports beside ONNX's own."""
    known = {opset.domain for opset in host.opset_import}
    host.opset_import.extend(opset for opset in guest.opset_import if opset.domain not in known)
    return host


class Graft:
    """Nodes of one graph to be put into another, where they read the host's tensors in place of their own."""

    def __init__(self, guest: ModelProto, host: ModelProto, places: Dict[str, str], types: Dict[str, int]):
        """places: tensor of the guest -> the host's; types: element type that the guest's nodes expect of each.

        Names that come from the guest begin with `prefix`, which no name of the host does.
        """
        taken = {name for node in host.graph.node for name in node.output}
        taken.update(weight.name for weight in host.graph.initializer)
        prefixes = (f"guest{number}/" for number in itertools.count(1))
        self.prefix = next(prefix for prefix in prefixes if not any(name.startswith(prefix) for name in taken))
        self.places, self.types = places, types
        self.makers = {name: node for node in guest.graph.node for name in node.output}
        self.initializers = {weight.name: weight for weight in guest.graph.initializer}
        self.weights: List[TensorProto] = []
        self.done: Set[str] = set()

    def nodes_of(self, tensors: Iterable[str]) -> List[NodeProto]:
        """What makes `tensors`, each called `prefix` and its name; nodes and weights that were given before are not
        given again."""
        nodes: List[NodeProto] = []
        for name in tensors:
            self._add(name, nodes)
        return nodes

    def _add(self, tensor: str, nodes: List[NodeProto]) -> None:
        if not tensor or self.prefix + tensor in self.done:
            return
        self.done.add(self.prefix + tensor)
        if tensor in self.initializers:
            weight = TensorProto()
            weight.CopyFrom(self.initializers[tensor])
            weight.name = self.prefix + tensor
            self.weights.append(weight)
            return
        node = NodeProto()
        node.CopyFrom(self.makers[tensor])
        self.done.update(self.prefix + name for name in node.output)
        node.name = node.name and self.prefix + node.name
        node.input[:] = [self._input(name, nodes) for name in node.input]
        node.output[:] = [self.prefix + name if name else "" for name in node.output]
        nodes.append(node)

    def _input(self, name: str, nodes: List[NodeProto]) -> str:
        if name not in self.places:
            self._add(name, nodes)
            return self.prefix + name if name else ""
        read = f"{self.prefix}read/{name}"
        if read not in self.done:
            self.done.add(read)
            nodes.append(helper.make_node("Cast", [self.places[name]], [read], to=self.types[name]))
        return read


def prune(model: ModelProto) -> ModelProto:
    """Remove nodes and weights that no output needs; returns `model`."""
    needed = {value.name for value in model.graph.output}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = [weight for weight in model.graph.initializer if weight.name in needed]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(weights)
    return model
