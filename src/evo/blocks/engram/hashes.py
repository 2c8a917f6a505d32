"""The numbers of the hash functions: multipliers of tokens, and how many rows each function has."""

from collections.abc import Iterator
from functools import cache
from math import isqrt

BITS = (1 << 64) - 1
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
STRIDE = 10007


def multipliers(vocab: int, count: int, place: int, seed: int) -> tuple[int, ...]:
    """Odd numbers, one for each token of the longest n-gram, so small that no product overflows 63 bits (transformers'
    Qwen4-Exp: splitmix64 of the seed and the place)."""
    bound = max(1, ((1 << 63) - 1) // max(vocab, 1) // 2)
    start = seed + STRIDE * place
    return tuple(2 * (_splitmix((start + GAMMA * (index + 1)) & BITS) % bound) + 1 for index in range(count))


def _splitmix(value: int) -> int:
    """One step of splitmix64 (Steele et al. 2014)."""
    value = (value + GAMMA) & BITS
    value = ((value ^ (value >> 30)) * FIRST) & BITS
    value = ((value ^ (value >> 27)) * SECOND) & BITS
    return value ^ (value >> 31)


@cache
def sizes(least: int, count: int, place: int) -> tuple[int, ...]:
    """Primes from `least` on, a function each: those behind the ones of all earlier places."""
    primes = _primes(least)
    found = [next(primes) for _ in range((place + 1) * count)]
    return tuple(found[place * count :])


def _primes(least: int) -> Iterator[int]:
    number = max(least, 2)
    while True:
        if all(number % divisor for divisor in range(2, isqrt(number) + 1)):
            yield number
        number += 1
