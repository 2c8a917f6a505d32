"""The numbers of the hash functions: multipliers of tokens, and how many rows each function has."""

from collections.abc import Iterator
from functools import cache

BITS = (1 << 64) - 1
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
STRIDE = 10007
WITNESSES = (2, 3, 5, 7)


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
        if _is_prime(number):
            yield number
        number += 1


def _is_prime(number: int) -> bool:
    """Of numbers below 3,215,031,751, for which these witnesses are enough (Miller 1976; Jaeschke 1993)."""
    if number in WITNESSES or any(number % base == 0 for base in WITNESSES):
        return number in WITNESSES
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(base, odd, twos, number) for base in WITNESSES)


def _passes(base: int, odd: int, twos: int, number: int) -> bool:
    """Whether a witness does not show that a number is composite."""
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    return any((power := power * power % number) == number - 1 for _ in range(twos - 1))
