"""Colours in another order than B, G, R, or other colours."""
from __future__ import annotations

import itertools

import numpy as np

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised
from comparison.causes.rerun import Change
from comparison.finding import Finding, best_of

TITLE = "other colours: grey, a channel missing, another order, range or gamma"
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as image libraries make grey of R, G, B
ORDERS = [order for order in itertools.permutations(range(3)) if order not in ((0, 1, 2), (2, 1, 0))]


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.einsum("nchw,c->nhw", values, LUMA)[:, None], 3, axis=1)


def test(case: Case) -> Finding:
    spec = case.options.spec

    def of_colours(change: Change) -> Change:
        return lambda crops: normalised(change(colours(crops, spec)), spec)

    trials = {"grey": of_colours(grey), "the mean of R, G and B": of_colours(
                  lambda values: np.repeat(values.mean(axis=1, keepdims=True), 3, axis=1)),
              "a limited range (16..235)": of_colours(lambda values: (values * 219 + 16) / 255),
              "a limited range taken for a complete one": of_colours(lambda values: np.clip(
                  (values * 255 - 16) / 219, 0, 1)),
              "gamma 2.2": of_colours(lambda values: np.clip(values, 0, 1) ** 2.2),
              "gamma 1 / 2.2": of_colours(lambda values: np.clip(values, 0, 1) ** (1 / 2.2)),
              "gamma 1.8": of_colours(lambda values: np.clip(values, 0, 1) ** 1.8),
              "the negative": of_colours(lambda values: 1 - values)}
    for channel, name in enumerate(("red", "green", "blue")):
        trials[f"{name} alone, in all channels"] = of_colours(
            lambda values, channel=channel: values[:, [channel] * 3])
        trials[f"no {name}"] = of_colours(lambda values, channel=channel: np.where(
            np.arange(3)[:, None, None] == channel, np.float32(0), values))
    for order in ORDERS:
        name = "".join("RGB"[channel] for channel in order)
        trials[f"channels in the order {name}"] = of_colours(lambda values, order=list(order): values[:, order])
    return best_of(case.crop_trials("colour", trials))
