"""ALPS (Meng, Behdin, Wang and Mazumder, 2024): the alternating direction method of multipliers."""

from fractions import Fraction

import torch
from torch import Tensor

from pins.oneshot.layer import Layer, Pruned, damped
from pins.oneshot.methods.method import Method, allowed
from pins.oneshot.refit import DAMPING, refit
from pins.selection.allocation import Allocation
from pins.selection.select import select

FIRST = 0.1  # ρ at the start, in units of the scaled G's diagonal, which is 1
EVERY = 3  # iterations from one ρ to the next
# factor of ρ by the share of kept weights that changed since the last one (§3.2 there)
FACTORS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
MOST = 300  # iterations


class Alps(Method):
    """A heuristic for (R): its mask is the optimum of no program, its weights are, for that mask.

    With G scaled to a diagonal of 1 it alternates W ← (G + ρI)⁻¹(GŴ − V + ρD), D ← the largest
    |W + V/ρ| that the constraint allows, V ← V + ρ(W − D), Ŵ being the dense weights, until the
    mask of D stays the same for `EVERY` iterations under a growing ρ (§3 there). Weights of an
    input that is always 0 go first. Then the kept weights are refitted exactly, where the authors
    take steps of conjugate gradients. O(inputs³) for each ρ, and O(rows·inputs²) for each
    iteration. G is decomposed and the weights are refitted in float64; the iterations, which only
    choose the mask, are in float32.
    """

    name = "alps"

    def prune(self, layer: Layer, allocation: Allocation, sparsity: Fraction) -> Pruned:
        """As `Method.prune`; the scores change on the way, so there are none to certify."""
        gram = damped(layer.gram, DAMPING)
        scale = gram.diagonal().sqrt()
        gram = gram / scale / scale[:, None]
        values, vectors = torch.linalg.eigh(gram)
        dense = layer.live * scale
        target, dense = (dense @ gram).float(), dense.float()
        tree = allowed(layer, allocation, sparsity)

        def largest(weights: Tensor) -> Tensor:
            return select({layer.name: weights.abs()}, tree)[layer.name]

        rho, multipliers = FIRST, torch.zeros_like(dense)
        mask = before = largest(dense)
        sparse = dense.where(mask, 0.0)
        for iteration in range(1, MOST + 1):
            if iteration % EVERY == 1:  # ρ is another one
                inverse = ((vectors / (values + rho)) @ vectors.T).float()
            weights = (target - multipliers + rho * sparse) @ inverse
            shifted = weights + multipliers / rho
            mask = largest(shifted)
            sparse = shifted.where(mask, 0.0)
            multipliers += rho * (weights - sparse)
            if iteration % EVERY == 0:
                changed = int((mask != before).count_nonzero()) / max(int(mask.count_nonzero()), 1)
                if not changed:
                    break
                rho *= next(factor for share, factor in FACTORS if changed >= share)
                before = mask
        return Pruned(refit(layer, mask), mask, report={"iterations": iteration})
