"""Bytes of a file, checked on every access; what all parts of the reader share. Numbers are sections of FORMAT.md."""

import zlib

LIMIT = 8 * (2**32 - 1)
TOP = 2**63


class Refused(Exception):
    def __init__(self, code, file, offset, why):
        super().__init__(f"{'damaged' if code == 2 else 'unsupported'}: {file} at {offset}: {why}")
        self.code = code


class NotGood(Refused):
    """A header that may be what a crash has left, 7."""


class File:
    """Bytes with a name; every access is checked."""

    def __init__(self, name, data, identity=b""):
        self.name, self.data, self.crc = name, data, zlib.crc32(identity)

    def damaged(self, offset, why):
        return Refused(2, self.name, offset, why)

    def unsupported(self, offset, why):
        return Refused(3, self.name, offset, why)

    def check(self, good, offset, why):
        if not good:
            raise self.damaged(offset, why)

    def bytes(self, offset, size, end=None):
        self.check(offset + size <= (len(self.data) if end is None else end), offset, "bytes beyond the end")
        return self.data[offset:offset + size]

    def u(self, offset, size):
        return int.from_bytes(self.bytes(offset, size), "little")

    def zero(self, offset, size):
        self.check(not any(self.bytes(offset, size)), offset, "reserved bytes or padding not zero")

    def identify(self, identity):
        self.crc = zlib.crc32(identity)

    def sum(self, offset, size):  # 3
        return zlib.crc32(self.bytes(offset, size), zlib.crc32(offset.to_bytes(8, "little"), self.crc))

    def prefix(self, kind, header):  # 4.1
        self.check(len(self.data) >= header, 0, "shorter than its header")
        self.check(self.data[:8] == b"\x89ml" + kind + b"\r\n", 0, "wrong magic")
        self.understood()

    def understood(self):
        if self.u(8, 2) != 1 or self.u(12, 4):
            raise self.unsupported(8, "version or required bits")

    def reserved(self):  # behind the checksum of the header
        self.zero(10, 2)
        self.zero(20, 4)


def up(n, a):
    return -(-n // a) * a


def place(side, key):  # 6.4
    return (side == 2, key, side)


def covers(start, end, key):
    return start <= place(0, key) and end >= place(1, key)


def lz4(f, start, data, size):
    out, i = bytearray(), 0

    def number(n):
        nonlocal i
        more = n == 15
        while more:
            f.check(i < len(data), start + i, "packed block ends early")
            n, more, i = n + data[i], data[i] == 255, i + 1
        return n

    while i < len(data):
        token, i = data[i], i + 1
        n = number(token >> 4)
        f.check(i + n <= len(data) and len(out) + n <= size, start + i, "literals of a packed block")
        out += data[i:i + n]
        i += n
        if i == len(data):
            break
        f.check(i + 2 <= len(data), start + i, "packed block ends early")
        back, i = data[i] | data[i + 1] << 8, i + 2
        n = number(token & 15) + 4
        f.check(0 < back <= len(out) and len(out) + n <= size, start + i, "match of a packed block")
        for _ in range(n):
            out.append(out[-back])
    f.check(len(out) == size, start, "length of an unpacked block")
    return bytes(out)
