"""Writes student_t.json: reference values for the evaluator's Student-t intervals.

Run, from anywhere:

    python3 -m venv /tmp/student-t
    /tmp/student-t/bin/pip install scipy mpmath
    /tmp/student-t/bin/python crates/core/reference/student_t.py

The result does not depend on the versions of these packages: sums are exact (integers and fractions),
everything else is computed by mpmath to 40 digits and rounded once, to the nearest double. Every t
quantile is found by mpmath as the root of the regularized incomplete beta function, and SciPy, an
independent implementation, must agree to 1e-12; otherwise nothing is written.

With a sample of m medians a_i, in bytes, and a two-sided confidence level 1 - alpha:

    mean             x = (1/m) sum a_i
    variance        u2 = (1/(m-1)) sum (a_i - x)^2                  unbiased
    t                    P(T > t) = alpha/2, T Student-t with m-1 degrees of freedom
    confidence_upper     x + t sqrt(u2/m)                           upper end for the mean
    prediction_upper     x + t sqrt(u2) sqrt(1 + 1/m)               upper end for one more value

student_t.json:

    quantiles   one entry per (m, level): t
    samples     the medians, either listed or as a formula, and what follows from them; at "levels[k]" the
                bounds are "confidence_upper_bytes[k]" and "prediction_upper_bytes[k]"

A formula stands for the m medians, j = seed + i, i from 0 to m-1, in integers (64 bits are enough):

    ((j*j*7919 + j*104729) mod 1048576) * 65536
"""

import json
from fractions import Fraction
from pathlib import Path

import mpmath
from scipy import stats

mpmath.mp.dps = 40

SIZES = [2, 3, 4, 5, 10, 30, 100, 1000, 10000]

# Text, so that alpha is the decimal that is meant and not the nearest double's distance from 1.
LEVELS = ["0.5", "0.8", "0.9", "0.95", "0.99", "0.999", "0.9999"]

PAGE = 65536
MIB = 1024 * 1024

# Whole pages, as linear memory is: differences of single bytes at 2^45 are below what doubles resolve.
LISTED = {
    "two medians, one page apart": [17 * PAGE, 18 * PAGE],
    "two medians, far apart": [PAGE, 65536 * PAGE],
    "two equal medians": [20 * MIB, 20 * MIB],
    "three medians": [16 * MIB, 17 * MIB, 24 * MIB],
    "three equal medians": [PAGE, PAGE, PAGE],
    "three medians near 2^45": [2**45 - PAGE, 2**45, 2**45 + 3 * PAGE],
    "four medians, unordered": [40 * MIB, 10 * MIB, 30 * MIB, 20 * MIB],
    "five medians with one outlier": [20 * MIB, 21 * MIB, 20 * MIB, 22 * MIB, 4096 * MIB],
    "five medians of zero and one page": [0, 0, PAGE, 0, PAGE],
    "five huge medians, wide": [2**45, 2**44, 2**43, 2**45 - 7 * PAGE, 2**42],
    "ten medians": [(16 + k * k) * MIB for k in range(10)],
    "ten equal medians": [33 * PAGE] * 10,
    "ten medians near 2^45": [2**45 + k * PAGE for k in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3)],
    "ten medians with one outlier": [25 * MIB] * 9 + [2500 * MIB],
}

# (m, seed)
FORMULAS = [(10, 0), (30, 0), (30, 12345), (100, 0), (100, 1), (1000, 0), (1000, 987654), (10000, 0), (10000, 42)]


def t_quantile(m: int, level: str) -> mpmath.mpf:
    """t with P(T > t) = (1 - level)/2 at m-1 degrees of freedom, to mpmath's precision."""
    alpha = 1 - mpmath.mpf(level)
    freedom = m - 1
    by_scipy = float(stats.t.isf(float(alpha / 2), freedom))

    # P(|T| > t) = I_y(freedom/2, 1/2) with y = freedom/(freedom + t^2). SciPy's answer only starts the search.
    def excess(t):
        y = freedom / (freedom + t * t)
        return mpmath.betainc(mpmath.mpf(freedom) / 2, mpmath.mpf(1) / 2, 0, y, regularized=True) - alpha

    t = mpmath.findroot(excess, (by_scipy * (1 - 1e-9), by_scipy * (1 + 1e-9)), tol=1e-35)
    if abs(by_scipy - t) > mpmath.mpf("1e-12") * t:
        raise SystemExit(f"m={m} level={level}: SciPy says {by_scipy!r}, mpmath {float(t)!r}")
    return t


def exact(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


def by_formula(m: int, seed: int) -> list[int]:
    return [((j * j * 7919 + j * 104729) % 1048576) * 65536 for j in range(seed, seed + m)]


def sample(name: str, source: dict, medians: list[int], quantiles: dict) -> dict:
    """One entry of "samples"; `source` is how its medians are written down."""
    m = len(medians)
    mean = Fraction(sum(medians), m)
    variance = sum((a - mean) ** 2 for a in medians) / (m - 1)
    x, u2 = exact(mean), exact(variance)
    ts = [quantiles[m, level] for level in LEVELS]
    return {
        "name": name,
        "m": m,
        **source,
        "mean_bytes": float(x),
        "variance_bytes2": float(u2),
        "stddev_bytes": float(mpmath.sqrt(u2)),
        "confidence_upper_bytes": [float(x + t * mpmath.sqrt(u2 / m)) for t in ts],
        "prediction_upper_bytes": [float(x + t * mpmath.sqrt(u2 * (m + 1) / m)) for t in ts],
    }


def lines(entries: list[dict]) -> str:
    """One entry per line: diffs then show the entries that changed."""
    return ",\n".join("    " + json.dumps(entry) for entry in entries)


def main() -> None:
    quantiles = {(m, level): t_quantile(m, level) for m in SIZES for level in LEVELS}
    table = [{"m": m, "level": float(level), "t": float(t)} for (m, level), t in quantiles.items()]
    samples = [sample(name, {"medians_bytes": medians}, medians, quantiles) for name, medians in LISTED.items()]
    samples += [
        sample(f"{m} medians by formula, seed {seed}", {"formula_seed": seed}, by_formula(m, seed), quantiles)
        for m, seed in FORMULAS
    ]
    path = Path(__file__).with_suffix(".json")
    path.write_text(
        "{\n"
        f'  "levels": {json.dumps([float(level) for level in LEVELS])},\n'
        f'  "quantiles": [\n{lines(table)}\n  ],\n'
        f'  "samples": [\n{lines(samples)}\n  ]\n'
        "}\n"
    )
    print(f"{path}: {len(table)} quantiles, {len(samples)} samples")


if __name__ == "__main__":
    main()
