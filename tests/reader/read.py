#!/usr/bin/env python3
"""Print every visible entry of a maplsm database: keyspace, key and value, the last two in hexadecimal.

This is a second implementation of the format, which follows FORMAT.md alone: it shares nothing with the library, so
that what the document leaves out shows. `files.py` has what all parts need, `state.py` the manifest; the log, tables and
visibility are here. Numbers in comments are sections of FORMAT.md. Indexes are not read.

Usage: read.py DIRECTORY. Exit codes: 0 done, 2 damaged, 3 unsupported.
"""

import os
import re
import sys
from collections import namedtuple

sys.dont_write_bytecode = True  # the directory of the sources stays as it is

from files import LIMIT, TOP, File, NotGood, Refused, covers, lz4, place, up  # noqa: E402
from state import NO_D, State  # noqa: E402

PUT, DELETE, RANGE_DELETE, MERGE, POINTER = range(5)

Entry = namedtuple("Entry", "kind oldest low40 alignment key value length back")


def counter(parts):  # 6.7
    if any(len(part) != 8 for part in parts):
        return None
    return (sum(int.from_bytes(part, "little") for part in parts) % 2**64).to_bytes(8, "little")


OPERATORS = {"maplsm.counter": counter, "maplsm.append": b"".join, "maplsm.max": max}


class Database(State):
    # Log, 9

    def log(self):
        groups, self.last = [], self.last_sequence
        self.walk(groups)
        for f, group, base, sequence in groups:  # bodies come after the decision where the log ends
            self.log_group(f, group, base, sequence)

    def walk(self, groups):
        found = [int(m[1]) for m in (re.fullmatch(r"(\d{6}|[1-9]\d{6,})\.wal", n) for n in os.listdir(self.path)) if m]
        numbers = sorted(n for n in found if self.first_segment <= n < 2**64)
        for number in self.ends:
            if number not in numbers:
                raise Refused(2, f"{number:06}.wal", 0, "missing")
        files = [self.framed(number, "wal", b"WAL") for number in numbers]
        headers = [self.good_header(f) for f in files]
        durable = known = max([self.log_durable if self.log_durable[0] >= self.first_segment else NO_D,
                               *self.ends.items()])
        sequence, skipped, at = None, False, NO_D
        for i, f in enumerate(files):
            number, o = numbers[i], 80
            try:
                header = self.header(f)
                linked = header[0] < max(self.first_segment, 1) if i == 0 else header[:2] == [numbers[i - 1], at[1]]
            except NotGood:
                linked = False
            if not linked:
                return self.torn(files, i, 0, durable, at if i else (self.first_segment, 0))
            base = header[2]
            f.check(sequence in (None, base), 64, "base_sequence")
            sequence = base if sequence is None else sequence
            end = self.ends.get(number)
            if end is None and i + 1 < len(files) and headers[i + 1] and headers[i + 1][0] == number:
                end = headers[i + 1][1]
            while end is None or o < end:
                group = self.group(f, o)
                durable = max(durable, group.durable if group else NO_D)
                if not group or not group.whole:
                    return self.torn(files, i, o, durable)
                if group.kind == 3 and end is None:
                    f.check(known <= (number, o), o, "the log ends before what is durable")
                    return None
                if group.kind in (1, 4, 5):
                    f.check(sequence + group.count <= TOP, o, "sequence number too large")
                if group.kind in (1, 4):
                    f.check(not skipped, o, "log and manifest are not of the same moment")
                    groups.append((f, group, base, sequence))
                if group.kind != 2 and group.kind != 3:
                    sequence += group.count
                    self.last = max(self.last, sequence - 1)
                skipped = skipped or group.kind == 5 and sequence - 1 > self.last_sequence
                o = group.end
            if o != end:
                return self.torn(files, i, o, durable)
            at = (number, o)
        if known > at:
            raise Refused(2, f"{known[0]:06}.wal", known[1], "the log ends before what is durable")
        return None

    def torn(self, files, i, o, durable, read=None):  # 9.1, steps 5 to 7; `read` is P if that is not (files[i], o)
        f = files[i]
        f.check(f.number not in self.ends, o, "a segment with a recorded end is not whole")
        for later in files[i:]:
            durable = max(durable, self.search(later, o if later is f else 0))
        f.check(durable <= (read or (f.number, o)), o, "durable bytes are not there")

    def log_group(self, f, group, base, sequence):  # 8.1
        runs, o, count = [], group.body, 0
        if group.kind == 4:
            runs.append((0, o, group.end))
            o = group.end
        while o < group.end:
            keyspace, size = f.u(o, 4), 8 * f.u(o + 4, 4)
            f.check((keyspace < 2**32 - 1) == (size > 0) and o + 8 + size <= group.end, o, "run")
            if size:
                runs.append((keyspace, o + 8, o + 8 + size))
            o += 8 + size
        for keyspace, o, end in runs:
            f.check(keyspace < self.next_keyspace, o, "a keyspace that was never created")
            while o < end:
                e = self.entry(f, o, end, o)
                f.check(e.kind != POINTER and not e.oldest, o, "kind or bits of an entry in a segment")
                f.check(base + ((e.low40 - base) & (2**40 - 1)) == sequence + count, o, "sequence number")
                alignment = self.keyspaces.get(keyspace, (None, e.alignment))[1]
                f.check(e.alignment == alignment, o, "alignment of an entry")
                self.take(f, o, keyspace, e, sequence + count)
                o, count = o + e.length, count + 1
        f.check(count == group.count, group.body, "count of entries")

    # Entries, 6

    def entry(self, f, o, end, position):
        flags, k, v = f.u(o, 1), f.u(o + 6, 2), f.u(o + 8, 4)
        f.check(o + 12 <= end, o, "entry beyond its run or section")
        kind, alignment, x, back = flags & 15, (flags >> 5) & 3, 0, 0
        if kind > 4 or alignment == 3:
            raise f.unsupported(o, "kind or alignment of an entry")
        if flags & 0x10:
            f.check(o + 14 <= end, o, "extension beyond its run or section")
            x, extension = 8 * f.u(o + 12, 1), f.u(o + 13, 1)
            folded = kind == MERGE and extension == 2
            if extension < 0x80 and not folded:
                raise f.unsupported(o + 13, "extension")
            f.check(x and (extension != 0x81 and not folded or x == 8), o + 12, "length of an extension")
            back = f.u(o + 14, 6) if folded else 0
        a = (1, 8, 16)[alignment]
        f.check(position % max(8, a) == 0, o, "offset of an entry")
        value = up(12 + x + k, a)
        length = up(value + v, max(8, a))
        f.check(o + length <= end, o, "entry beyond its run or section")
        key, value = f.bytes(o + 12 + x, k), f.bytes(o + value, v)
        return Entry(kind, flags >= 0x80, f.u(o + 1, 5), (0, 3, 4)[alignment], key, value, length, back)

    def take(self, f, o, keyspace, e, sequence):
        if e.kind == RANGE_DELETE:
            f.check(len(e.value) >= 2 and e.value[0] <= 1 and e.value[1] <= 2, o, "range delete")
            start, end = place(e.value[0], e.key), place(e.value[1], e.value[2:])
            f.check(len(e.value) <= 2 + 65535 and (e.value[1] < 2 or len(e.value) == 2), o, "range delete")
            f.check(start < end, o, "range delete")
            self.removed.setdefault(keyspace, []).append((start, end, sequence))
            return
        f.check(e.kind != POINTER or len(e.value) == 24, o, "pointer")
        versions = self.versions.setdefault(keyspace, {}).setdefault(e.key, [])
        versions.append((sequence, e.kind, e.value, f, o, e.back))

    # Tables and value files, 10

    def frame(self, name, kind, identity, size, footer_checksum):
        f = self.file(name)
        f.prefix(kind, 64)
        f.identify(f.bytes(24, 16))
        f.check(f.u(60, 4) == f.sum(0, 60), 60, "checksum of the header")
        f.reserved()
        f.zero(41, 19)
        f.check(12 <= f.u(40, 1) <= 20, 40, "chunk size")
        n = len(f.data) - 128
        f.check(n >= 0 and f.bytes(n, 8) == f.bytes(0, 8), n, "no footer")
        f.check(f.u(n + 124, 4) == f.sum(n, 124), n + 124, "checksum of the footer")
        f.check(f.bytes(n + 8, 16) == f.bytes(24, 16), n + 8, "id of the footer")
        f.check(f.u(n + 24, 8) == len(f.data) <= LIMIT, n + 24, "length of the file")
        f.end, f.chunk, f.known = f.u(n + 32, 8), 1 << f.u(40, 1), set()
        f.check(64 <= f.end <= n and f.end % 8 == 0, n + 32, "end of the body")
        chunks = up(f.end, f.chunk) // f.chunk
        f.directory = f.end + up(4 * (chunks + up(chunks, 1023) // 1023), 8)
        f.check(f.u(n + 40, 8) == f.directory and f.directory + f.u(n + 48, 8) == n, n + 40, "directory")
        f.zero(n + 88, 36)
        f.check(f.u(n + 80, 8) < TOP, n + 80, "sequence number")
        f.check(f.u(n + 60, 4) == f.sum(f.directory, n - f.directory), n + 60, "checksum of the directory")
        recorded = (f.bytes(24, 16), len(f.data), f.u(n + 124, 4)) == (identity, size, footer_checksum)
        f.check(recorded, n, "not the file of the manifest")
        f.footer = n
        return f

    def body(self, f, start, end):
        """Verify the chunks of these bytes and their pages, 10.2."""
        f.check(64 <= start <= end <= f.end, start, "beyond the body")
        chunks = up(f.end, f.chunk) // f.chunk
        for chunk in range(start // f.chunk, up(end, f.chunk) // f.chunk):
            page, slot = divmod(chunk, 1023)
            at, o = f.end + 4096 * page, chunk * f.chunk
            if page not in f.known:
                size = 4 * min(1023, chunks - 1023 * page)
                f.check(f.u(at + size, 4) == f.sum(at, size), at, "checksum of a page")
                f.known.add(page)
            good = f.u(at + 4 * slot, 4) == f.sum(o, min(f.chunk, f.end - o))
            f.check(good, o, "checksum of a chunk")
        return f

    def table(self, number, t):
        f = self.frame(f"{number:06}.sst", b"SST", t["id"], t["bytes"], t["footer"])
        own = self.sections(f, f.directory, f.footer, f.u(f.footer + 56, 4))
        directory, at = bytearray(f.bytes(f.directory, f.footer - f.directory)), 0
        o = 64
        for s in own:
            if t["loaded"]:  # 10.9
                f.check(s.maximum < t["loaded"], f.directory + at, "global sequence")
                directory[at + 72:at + 88] = 2 * t["loaded"].to_bytes(8, "little")
            at += s.record_bytes
            f.check(s.start == (up(o, 16) if s.alignment == 4 else o), f.directory, "start of a section")
            o = s.end + s.range_bytes + 16 * s.blocks
        f.check(o == f.end and sum(s.entries for s in own) == f.u(f.footer + 64, 8), f.directory, "sections")
        f.check(bytes(directory) == t["directory"], f.directory, "directory is not that of the manifest")
        for s in t["live"].values():
            last, end = None, s.end + s.range_bytes + 16 * s.blocks
            self.body(f, s.start, end)
            for g, o, stop in self.blocks(f, s) if s.blocks else [(f, s.start, s.end)]:
                while o < stop:
                    e = self.entry(g, o, stop, o)
                    g.check(e.kind != RANGE_DELETE, o, "kind of an entry in a table")
                    sequence = s.minimum + ((e.low40 - s.minimum) & (2**40 - 1))
                    sequence = t["loaded"] if e.oldest else sequence
                    g.check(last is None or last < (e.key, -sequence), o, "entries out of order")
                    g.check(last is None or last[0] < e.key or s.keys < s.entries, o, "versions that are not counted")
                    self.take(g, o, s.keyspace, e, sequence)
                    last, o = (e.key, -sequence), o + e.length
            self.fragments(f, s)

    def fragments(self, f, s):  # 10.6
        o, end, last = s.end, s.end + s.range_bytes, s.lower
        for _ in range(s.fragments):
            f.check(o + 16 <= end, o, "fragment beyond its section")
            a, b, k, n, count = f.u(o, 1), f.u(o + 1, 1), f.u(o + 2, 2), f.u(o + 4, 2), f.u(o + 8, 4)
            keys = o + 16 + 8 * count
            after = up(keys + k + n, 8)
            f.check(count and after <= end and a <= 1 and b <= 2 and (b < 2 or n == 0), o, "fragment")
            for at, size in ((o + 6, 2), (o + 12, 4), (keys + k + n, after - keys - k - n)):
                f.zero(at, size)
            start, stop = place(a, f.bytes(keys, k)), place(b, f.bytes(keys + k, n))
            f.check(last <= start < stop <= s.upper, o, "fragment out of order")
            sequences = [f.u(o + 16 + 8 * i, 8) for i in range(count)]
            descending = all(x > y for x, y in zip([s.maximum + 1] + sequences, sequences + [0]))
            f.check(descending, o, "sequence numbers of a fragment")
            self.removed.setdefault(s.keyspace, []).extend((start, stop, n) for n in sequences)
            o, last = after, stop
        f.check(o == end, o, "fragments do not fill their space")

    def blocks(self, f, s):  # 10.10
        base, at, total, found = s.end + s.range_bytes, up(s.start, 16), 0, []
        for r in range(base, base + 16 * s.blocks, 16):
            start, raw, stored = 8 * f.u(r, 4), 8 * f.u(r + 4, 4), f.u(r + 8, 8)
            f.check(start == at and start + stored <= s.end, r, "block out of place")
            f.check(0 < stored <= raw <= max(1 << s.block_log2, 1024 * stored), r, "length of a block")
            at, total = up(start + stored, 16), total + raw
            found.append((start, raw, stored))
        f.check(at == s.end and s.entries <= total // 16, base, "blocks")
        for start, raw, stored in found:
            data = f.bytes(start, stored)
            g = File(f"{f.name}, block at {start}", data if stored == raw else lz4(f, start, data, raw))
            yield g, 0, raw

    def value(self, pointer, f, o):
        number, at, size, codec, reserved = (int.from_bytes(pointer[a:b], "little") for a, b in
                                             ((0, 8), (8, 16), (16, 20), (20, 21), (21, 24)))
        if codec:
            raise f.unsupported(o, "codec of a value")
        f.check(not reserved and number in self.values and at % 16 == 0, o, "pointer")
        file = self.open_values[number]
        return self.body(file, at, at + size).bytes(at, size)

    # Everything, 0.3

    def read(self):
        number = self.current()
        if number is None:
            return
        self.manifest(number)
        self.open_values = {}
        for number, (identity, size, length, records, checksum) in self.values.items():
            f = self.frame(f"{number:06}.val", b"VAL", identity, size, checksum)
            empty = f.directory == f.footer and f.u(f.footer + 56, 4) == 0
            f.check(empty and f.end == 64 + length and f.u(f.footer + 64, 8) == records, f.footer, "records")
            self.open_values[number] = f
        for number, table in sorted(self.tables.items()):
            self.table(number, table)
        self.log()
        for keyspace, (name, _) in sorted(self.keyspaces.items(), key=lambda k: k[1][0].encode()):
            removed = [r for r in self.removed.get(keyspace, []) if r[2] <= self.last]
            for key, versions in sorted(self.versions.get(keyspace, {}).items()):
                visible = [version for version in versions if version[0] <= self.last]
                if not visible:
                    continue
                removal = max((n for a, b, n in removed if covers(a, b, key)), default=0)
                found = self.resolve(self.operators.get(keyspace), visible, removal)
                if found is not None:
                    yield name, key, found

    def resolve(self, operator, versions, removal):  # 0.3, 6.6
        operands, upto = [], TOP
        for sequence, kind, value, f, o, back in sorted(versions, key=lambda version: -version[0]):
            if sequence > upto:
                continue
            if sequence < removal or kind == DELETE:
                break
            if kind != MERGE:
                value = self.value(value, f, o) if kind == POINTER else value
                if not operands:
                    return value
                operands.append(value)
                break
            if operator not in OPERATORS:
                raise f.unsupported(o, "merge operand")
            operands.append(value)
            upto, last = sequence - back - 1, (f, o)
        if not operands:
            return None
        made = OPERATORS[operator](operands[::-1])
        if made is None:
            raise last[0].unsupported(last[1], "operands that the operator refuses")
        return made


def main():
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    try:
        lines = [f"{name}\t{key.hex()}\t{value.hex()}" for name, key, value in Database(sys.argv[1]).read()]
    except Refused as refused:
        print(refused, file=sys.stderr)
        return refused.code
    print("".join(line + "\n" for line in lines), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
