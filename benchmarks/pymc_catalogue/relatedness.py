"""Species on a tree, animals of a pedigree, twins, markers: constants times variances."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from .data import drawn, lkj, members, one_hot, pedigree, scales, tree_covariance


def phylogenetic_regression(seed=0, scale=1.0):
    """Brownian motion on a tree: s^2 C, C constant."""
    rng, species = drawn(seed, scale, 80)
    C, x = tree_covariance(rng, species), rng.normal(size=species)
    with pm.Model() as model:
        level, slope, s = pm.Normal("level"), pm.Normal("slope"), pm.HalfNormal("s")
        pm.MvNormal("y", level + slope * x, cov=s**2 * C, observed=x + rng.normal(size=species))
    return model


def pagel_lambda(seed=0, scale=1.0):
    """How much of the tree matters: s^2 (l C + (1 - l) I), C constant."""
    rng, species = drawn(seed, scale, 80)
    C, x = tree_covariance(rng, species), rng.normal(size=species)
    with pm.Model() as model:
        level, slope = pm.Normal("level"), pm.Normal("slope")
        s, lam = pm.HalfNormal("s"), pm.Uniform("lambda", 0, 1)
        cov = s**2 * (lam * C + (1 - lam) * np.eye(species))
        pm.MvNormal("y", level + slope * x, cov=cov, observed=x + rng.normal(size=species))
    return model


def phylogenetic_repeated(seed=0, scale=1.0):
    """Several individuals of each species: t^2 Z C Z' + s^2 I, Z one-hot, C constant."""
    rng, n, species = drawn(seed, scale, 120, 20)
    C, Z = tree_covariance(rng, species), one_hot(members(rng, n, species), species)
    with pm.Model() as model:
        t, s = scales("t", "s")
        cov = t**2 * pt.dot(Z, pt.dot(C, Z.T)) + s**2 * pt.eye(n)
        pm.MvNormal("y", pm.Normal("level"), cov=cov, observed=rng.normal(size=n))
    return model


def animal_model(seed=0, scale=1.0):
    """Heritability from a pedigree: s_a^2 A + s_e^2 I, A constant."""
    rng, animals = drawn(seed, scale, 120)
    A = pedigree(rng, animals)
    with pm.Model() as model:
        additive, residual = scales("additive", "residual")
        cov = additive**2 * A + residual**2 * pt.eye(animals)
        pm.MvNormal("y", pm.Normal("mean"), cov=cov, observed=rng.normal(size=animals))
    return model


def genomic_prediction(seed=0, scale=1.0):
    """Relationships by few markers, computed in NumPy: s_g^2 G + s_e^2 I, G = M M' / m of low rank."""
    rng, n, markers = drawn(seed, scale, 120, 15)
    M = rng.binomial(2, 0.3, size=(n, markers)) - 0.6
    G = M @ M.T / markers
    with pm.Model() as model:
        genetic, residual = scales("genetic", "residual")
        cov = genetic**2 * G + residual**2 * np.eye(n)
        pm.MvNormal("y", pm.Normal("mean"), cov=cov, observed=M[:, 0] + rng.normal(size=n))
    return model


def several_traits(seed=0, scale=1.0):
    """Two traits of a pedigree: kron(G, A) + kron(R, I), A constant, G and R under LKJ."""
    rng, animals = drawn(seed, scale, 40)
    A = pedigree(rng, animals)
    with pm.Model() as model:
        G, R = lkj(2, "genetic"), lkj(2, "residual")
        cov = pt.linalg.kron(G @ G.T, A) + pt.linalg.kron(R @ R.T, np.eye(animals))
        pm.MvNormal("y", 0, cov=cov, observed=rng.normal(size=2 * animals))
    return model


def twins(seed=0, scale=1.0):
    """Genes, home and chance (ACE) in pairs of twins: a batch of 2 x 2 a R_j + c + e I."""
    rng, pairs = drawn(seed, scale, 60)
    related = np.where(np.arange(pairs) < pairs // 2, 1.0, 0.5)
    R = np.eye(2) + related[:, None, None] * (1 - np.eye(2))
    with pm.Model() as model:
        a, c, e = scales("a", "c", "e")
        cov = a**2 * R + c**2 * np.ones((2, 2)) + (e**2 + 0.01) * np.eye(2)
        pm.MvNormal("y", pm.Normal("mean"), cov=cov, observed=rng.normal(size=(pairs, 2)))
    return model


MODELS = (
    phylogenetic_regression,
    pagel_lambda,
    phylogenetic_repeated,
    animal_model,
    genomic_prediction,
    several_traits,
    twins,
)
