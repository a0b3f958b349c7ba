"""Decrypt AES-128-CBC with NumPy, many blocks at once, which is all that HLS needs of a cryptography package."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 16
_ROUNDS = 10
_CHUNK_BLOCKS = 1 << 14
_INVERSE_MIX = (14, 9, 13, 11)  # first column of the InvMixColumns matrix (FIPS 197, section 5.3.3)
_INVERSE_SHIFT = [4 * ((column - row) % 4) + row for column in range(4) for row in range(4)]
Bytes = NDArray[np.uint8]


def decrypt_cbc(data: bytes, key: bytes, vector: bytes) -> bytes:
    """Decrypt data that was padded by PKCS#7. Raises ValueError for a wrong length, key or padding."""
    if len(key) != BLOCK_BYTES or len(vector) != BLOCK_BYTES:
        raise ValueError("key and initialisation vector must have 16 bytes")
    if not data or len(data) % BLOCK_BYTES:
        raise ValueError("the length of encrypted data must be a multiple of 16 bytes")
    blocks = np.frombuffer(data, np.uint8).reshape(-1, BLOCK_BYTES)
    plain = np.empty_like(blocks)
    round_keys = _expand_key(key)
    for start in range(0, len(blocks), _CHUNK_BLOCKS):
        plain[start : start + _CHUNK_BLOCKS] = _decrypt_blocks(blocks[start : start + _CHUNK_BLOCKS], round_keys)
    plain[0] ^= np.frombuffer(vector, np.uint8)
    plain[1:] ^= blocks[:-1]
    padding = int(plain[-1, -1])
    if not 1 <= padding <= BLOCK_BYTES or (plain[-1, -padding:] != padding).any():
        raise ValueError("the padding is wrong, so the key does not fit the data")
    return plain.tobytes()[:-padding]


def _decrypt_blocks(blocks: Bytes, round_keys: Bytes) -> Bytes:
    """Apply the inverse cipher (FIPS 197, section 5.3) to uint8 ``[N, 16]``."""
    inverse_box, columns = np.argsort(_substitution_box()).astype(np.uint8), _inverse_mix_tables()
    state: Bytes = blocks ^ round_keys[_ROUNDS]
    for number in range(_ROUNDS - 1, -1, -1):
        state = inverse_box[state[:, _INVERSE_SHIFT]] ^ round_keys[number]
        if number:
            rows = state.reshape(-1, 4, 4)
            mixed = columns[0][rows[..., 0]]
            for row in range(1, 4):
                mixed ^= columns[row][rows[..., row]]
            state = np.ascontiguousarray(mixed).view(np.uint8).reshape(-1, BLOCK_BYTES)
    return state


def _expand_key(key: bytes) -> Bytes:
    """Return the round keys, uint8 ``[11, 16]`` (FIPS 197, section 5.2)."""
    box, words, constant = _substitution_box(), [np.frombuffer(key[i : i + 4], np.uint8) for i in range(0, 16, 4)], 1
    for number in range(4, 4 * (_ROUNDS + 1)):
        word = words[-1]
        if number % 4 == 0:
            word = box[np.roll(word, -1)]
            word[0] ^= constant
            constant = _multiply(constant, 2)
        words.append(words[-4] ^ word)
    return np.concatenate(words).reshape(_ROUNDS + 1, BLOCK_BYTES)


@cache
def _inverse_mix_tables() -> list[NDArray[np.uint32]]:
    """Return, for each row of a column, the mixed column of every byte in that row: uint32 ``[256]``, bytes in memory order."""
    products = np.array([[_multiply(byte, factor) for factor in _INVERSE_MIX] for byte in range(256)], np.uint8)
    return [np.ascontiguousarray(np.roll(products, row, axis=1)).view(np.uint32)[:, 0] for row in range(4)]


@cache
def _substitution_box() -> Bytes:
    """Return the S-box: the inverse in GF(2^8), then an affine map (FIPS 197, section 5.1.1)."""
    powers = [1]
    while len(powers) < 255:
        powers.append(_multiply(powers[-1], 3))  # 3 generates the field
    inverse = {power: powers[-index % 255] for index, power in enumerate(powers)}
    doubled = [inverse.get(byte, 0) * 0x101 for byte in range(256)]  # two copies, to rotate by shifting
    affine = [x ^ x >> 4 ^ x >> 5 ^ x >> 6 ^ x >> 7 ^ 0x63 for x in doubled]
    return np.array([value & 0xFF for value in affine], np.uint8)


def _multiply(a: int, b: int) -> int:
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a, b = (a << 1) ^ (0x11B if a & 0x80 else 0), b >> 1
    return product
