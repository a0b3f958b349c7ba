"""Decrypt AES-128-CBC, the encryption of HLS segments (RFC 8216, section 4.3.2.4)."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK_BYTES = 16


def decrypt_cbc(data: bytes, key: bytes, vector: bytes) -> bytes:
    """Decrypt data that was padded by PKCS#7. Raises ValueError for a wrong length, key or padding."""
    if len(key) != BLOCK_BYTES or len(vector) != BLOCK_BYTES:
        raise ValueError("key and initialisation vector must have 16 bytes")
    if not data or len(data) % BLOCK_BYTES:
        raise ValueError("the length of encrypted data must be a multiple of 16 bytes")
    decryptor = Cipher(AES128(key), CBC(vector)).decryptor()
    unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()
    try:
        return unpadder.update(decryptor.update(data) + decryptor.finalize()) + unpadder.finalize()
    except ValueError:
        raise ValueError("the padding is wrong, so the key does not fit the data") from None
