"""Computes the EIP-712 hash of the transaction in eip712.rs with a Keccak-256 and an encoder of its own.

Usage: python3 eip712_vector.py BODY_ID_HEX
"""
import sys

MASK = (1 << 64) - 1


def rotl(x, n):
    n %= 64
    return ((x << n) | (x >> (64 - n))) & MASK if n else x


def keccak_f(lanes):
    lfsr = 1
    for _ in range(24):
        c = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        d = [c[(x + 4) % 5] ^ rotl(c[(x + 1) % 5], 1) for x in range(5)]
        lanes = [[lanes[x][y] ^ d[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, lanes[1][0]
        for t in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], rotl(current, (t + 1) * (t + 2) // 2)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & MASK & row[(x + 2) % 5])
        for j in range(7):
            lfsr = ((lfsr << 1) ^ ((lfsr >> 7) * 0x71)) % 256
            if lfsr & 2:
                lanes[0][0] ^= 1 << ((1 << j) - 1)
    return lanes


def keccak(data):
    rate = 136
    data = bytearray(data) + b"\x01"
    data += bytes(-len(data) % rate)
    data[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(data), rate):
        for i in range(rate // 8):
            word = int.from_bytes(data[start + 8 * i : start + 8 * i + 8], "little")
            lanes[i % 5][i // 5] ^= word
        lanes = keccak_f(lanes)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def encode(kind, value):
    """One member of a struct; bytes stand for a struct hash or a bytes32."""
    if kind == "string":
        return keccak(value.encode())
    if kind == "string[]":
        return keccak(b"".join(keccak(v.encode()) for v in value))
    if isinstance(value, bytes):
        return value.rjust(32, b"\0")
    return value.to_bytes(32, "big")


def struct(type_of, *values):
    inner = type_of[type_of.index("(") + 1 : type_of.index(")")]
    kinds = [member.split(" ")[0] for member in inner.split(",")]
    return keccak(keccak(type_of.encode()) + b"".join(encode(k, v) for k, v in zip(kinds, values, strict=True)))


def signing(domain, message):
    return keccak(b"\x19\x01" + domain + message)


def self_check():
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    person = "Person(string name,address wallet)"
    cow = struct(person, "Cow", bytes.fromhex("CD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"))
    bob = struct(person, "Bob", bytes.fromhex("bBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"))
    mail = struct("Mail(Person from,Person to,string contents)" + person, cow, bob, "Hello, Bob!")
    domain = struct(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        "Ether Mail", "1", 1, bytes.fromhex("CcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"),
    )
    assert signing(domain, mail).hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"


self_check()
domain = struct("EIP712Domain(string name,string version,bytes32 salt)", "Pasture", "1", b"\x11" * 32)
message = struct(
    "Transaction(bytes32 account,string right,uint8 lane,uint64 seq,uint64 validUntil,uint256 maxFee,uint256 tip,"
    "bytes32 feePayer,string[] actions,bytes32 body)",
    b"\x22" * 32, "account", 3, 1 << 40, 1_800_000_000_000, (1 << 128) - 1, 7, b"\x33" * 32,
    ["send 1.2500 credits to " + "44" * 32, "close lease " + "55" * 32], bytes.fromhex(sys.argv[1]),
)
print(signing(domain, message).hex())
