"""CURRENT and the manifest: which files make up a database. Numbers are sections of FORMAT.md."""

import os
import re
import stat
import struct
import unicodedata
from collections import namedtuple

from files import LIMIT, TOP, File, NotGood, Refused, place, up

NO_D = (-1, 0)

Group = namedtuple("Group", "kind count body end durable whole")
Section = namedtuple("Section", "keyspace compression start end entries keys tombstones range_bytes fragments minimum "
                                "maximum alignment lower upper blocks takes_global block_log2 values record_bytes")


class State:
    def __init__(self, path):
        self.path = path
        self.next_number, self.last_sequence, self.first_segment, self.next_keyspace = 1, 0, 0, 1
        self.ends, self.log_durable = {}, NO_D
        self.keyspaces = {0: ("default", 0)}
        self.operators = {}
        self.tables, self.values, self.value_numbers = {}, {}, set()
        self.versions, self.removed = {}, {}

    def file(self, name):
        path = os.path.join(self.path, name)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise Refused(2, name, 0, "not a regular file")
            with open(path, "rb") as file:
                return File(name, file.read())
        except FileNotFoundError:
            raise Refused(2, name, 0, "missing") from None

    # Headers and groups, 5, 7 and 8

    def current(self):
        self.file("LOCK")
        if not os.path.lexists(os.path.join(self.path, "CURRENT")):
            if any(re.fullmatch(r"\d{6,}\.(wal|sst|idx|val)", name) for name in os.listdir(self.path)):
                raise Refused(2, "CURRENT", 0, "missing")
            return None
        f = self.file("CURRENT")
        f.prefix(b"CUR", 64)
        f.check(len(f.data) == 64, 64, "wrong length")
        f.identify(f.bytes(24, 24))
        f.check(f.u(60, 4) == f.sum(0, 60), 60, "checksum")
        f.reserved()
        f.zero(48, 12)
        self.id = f.bytes(24, 16)
        return f.u(40, 8)

    def framed(self, number, extension, kind):
        """A segment or a manifest: its header is looked at apart, because the log goes on with a bad one."""
        f = self.file(f"{number:06}.{extension}")
        f.number, f.kind = number, kind
        f.identify(self.id + number.to_bytes(8, "little"))
        return f

    def header(self, f):
        if len(f.data) < 80 or f.data[:8] != b"\x89ml" + f.kind + b"\r\n":
            raise NotGood(2, f.name, 0, "shorter than its header, or wrong magic")
        f.understood()
        # Its own identity: the header of another file is whole, and breaks rules like any other.
        own = File(f.name, f.data, f.bytes(24, 24))
        if f.u(76, 4) != own.sum(0, 76):
            raise NotGood(2, f.name, 76, "checksum")
        f.reserved()
        f.zero(72, 4)
        fields = [f.u(offset, 8) for offset in (40, 48, 56, 64)]
        f.check(max(fields) < TOP, 40, "number too large")
        f.check(f.kind == b"WAL" or fields[1] < fields[0] and not fields[2] | fields[3], 48, "fields of a manifest")
        if f.bytes(24, 16) != self.id or fields[0] != f.number:
            raise NotGood(2, f.name, 24, "another database or number")
        return fields[1:]

    def good_header(self, f):
        try:
            return self.header(f)
        except Refused:
            return None

    def group(self, f, o):
        """The group at o if its header is verified; `whole` says whether the group is."""
        if o + 24 > len(f.data) or f.data[o] != 0x96 or f.u(o + 20, 4) != f.sum(o, 20):
            return None
        kind, back, size, units = f.u(o + 1, 1), f.u(o + 2, 2), 8 * f.u(o + 4, 4), f.u(o + 8, 4)
        count = f.u(o + 12, 4)
        if not 1 <= kind <= 5:
            raise f.unsupported(o, "kind of group")
        f.check(back <= f.number, o + 2, "durable position")
        f.check(kind < 4 or f.kind == b"WAL", o, "kind of group in a manifest")
        if kind in (2, 3, 5):
            f.check(size == 0 and (count > 0) == (kind == 5), o, "body or count of a mark or skip")
        end = o + 24 + size
        whole = end <= len(f.data) and f.u(o + 16, 4) == f.sum(o + 24, size)
        return Group(kind, count, o + 24, end, (f.number - back, 8 * units) if units else NO_D, whole)

    def search(self, f, o):
        found = NO_D
        for at in range(up(o, 8), len(f.data), 8):
            try:
                group = self.group(f, at)
            except Refused as refused:
                if refused.code != 2:  # what breaks a rule carries no D; an unknown kind is refused
                    raise
                continue
            if group:
                found = max(found, group.durable, (f.number, at) if group.kind == 3 else NO_D)
        return found

    # Manifest, 12

    def manifest(self, number):
        f = self.framed(number, "manifest", b"MAN")
        self.header(f)
        o, durable, edits = 80, NO_D, []
        while True:
            group = self.group(f, o)
            durable = max(durable, group.durable if group else NO_D)
            f.check(o > 80 or group and group.whole and group.kind == 1, o, "no first edit")
            if not group or not group.whole:
                f.check(max(durable, self.search(f, o)) <= (number, o), o, "durable bytes are not there")
                break
            if group.kind == 3:
                break
            if group.kind == 1:
                edits.append(group)
            o = group.end
        for group in edits:
            self.edit(f, group)
        self.ends = {number: end for number, end in self.ends.items() if number >= self.first_segment}
        names = [name for name, _ in self.keyspaces.values()]
        f.check(len(set(names)) == len(names), o, "two keyspaces of one name")
        self.check_ages(f, o)

    def check_ages(self, f, o):  # 12.3
        level0 = [(max(s.maximum for s in table["sections"]), number, table)
                  for number, table in self.tables.items() if table["level"] == 0]
        newer = {}
        for _, _, table in sorted(level0, key=lambda t: t[:2], reverse=True):
            for keyspace, s in table["live"].items():
                if s.maximum == 0:
                    continue
                oldest = newer.get(keyspace)
                load = oldest and oldest[1] and s.takes_global and oldest[0] == s.maximum
                f.check(oldest is None or load or oldest[0] > s.maximum, o, "two tables of level 0 of the same time")
                newer[keyspace] = (s.minimum if s.entries else s.maximum, s.takes_global)

    def edit(self, f, group):
        records, o = [], group.body
        while o < group.end:
            f.check(o + 8 <= group.end, o, "record beyond the edit")
            kind, size = f.u(o, 2), f.u(o + 4, 4)
            if not 1 <= kind <= 14:
                raise f.unsupported(o, "kind of record")
            f.zero(o + 2, 2)
            f.check(size % 8 == 0 and o + 8 + size <= group.end, o, "length of a record")
            want = {4: 16, 5: None, 6: 16, 8: 16, 9: None, 12: 16, 13: 56, 14: None}.get(kind, 8)
            f.check(want in (None, size), o, "length of a record")
            a, b = f.u(o + 8, 8) if size else 0, f.u(o + 16, 8) if size >= 16 else 0
            if want in (8, 16):
                f.check(a < TOP and b < TOP, o + 8, "number too large")
                f.check(kind not in (10, 11) or a < 2**32, o + 8, "keyspace")
                f.check(kind != 8 or b < 2**32, o + 16, "keyspace")
                f.check(kind != 6 or b <= 6, o + 16, "level")
            records.append((kind, o + 8, size, a, b))
            o += 8 + size
        f.check(len(records) == group.count, group.body, "count of records")
        added = []
        order = [13, 9, 14, 11, 7, 6, 5, 8, 10]  # 12.2; the others do not depend on one another
        for kind, at, size, a, b in sorted(records, key=lambda r: order.index(r[0]) if r[0] in order else 99):
            if kind == 1:
                self.next_number = max(self.next_number, a)
            elif kind == 2:
                self.last_sequence = max(self.last_sequence, a)
            elif kind == 3:
                self.first_segment = max(self.first_segment, a)
            elif kind == 4:
                self.ends[a] = b
            elif kind == 11:
                self.next_keyspace = max(self.next_keyspace, a)
            elif kind == 12:
                self.log_durable = max(self.log_durable, (a, b))
            elif kind == 13:
                f.check(a < TOP and a not in self.value_numbers, at, "value file was there already, or its number")
                self.value_numbers.add(a)
                f.zero(at + 52, 4)
                size, length, count = (f.u(at + offset, 8) for offset in (24, 32, 40))
                f.check(size <= LIMIT and length % 16 == 0 and length + 192 <= size, at, "length of a value file")
                f.check(0 < count <= length // 32, at, "records of a value file")
                self.values[a] = (f.bytes(at + 8, 16), size, length, count, f.u(at + 48, 4))
            elif kind == 5:
                added.append(self.add_table(f, at, size))
            elif kind == 9:
                self.create_keyspace(f, at, size)
            elif kind == 14:
                self.alter_keyspace(f, at, size)
            elif kind == 10:
                f.check(a != 0 and self.keyspaces.pop(a, None), at, "keyspace is not there")
                for table in self.tables.values():
                    table["live"].pop(a, None)
            else:
                f.check(a in self.tables, at, "table is not there")
                table = self.tables[a]
                if kind == 7:
                    del self.tables[a]
                elif kind == 6:
                    f.check(b == 0 or len(table["sections"]) == 1, at, "level of a table with several sections")
                    table["level"] = b
                else:
                    f.check(table["level"] == 0 and table["live"].pop(b, None), at, "section is not there")
        self.tables = {number: table for number, table in self.tables.items() if table["live"]}
        self.after_edit(f, group.body, added)

    def after_edit(self, f, at, added):
        bounds, named = {}, set()
        for number, table in self.tables.items():
            for keyspace, section in table["live"].items():
                if number in added:
                    f.check(keyspace in self.keyspaces, at, "section of a keyspace that is not there")
                    same = self.keyspaces[keyspace][1] == section.alignment
                    f.check(same or not section.entries, at, "alignment of a section")
                named.update(section.values)
                if table["level"]:
                    bounds.setdefault((keyspace, table["level"]), []).append((section.lower, section.upper))
        for ranges in bounds.values():
            ranges.sort()
            f.check(all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:])), at, "tables overlap")
        f.check(named <= set(self.values), at, "value file is not there")
        self.values = {number: record for number, record in self.values.items() if number in named}

    def add_table(self, f, at, size):
        f.check(size >= 56, at, "length of a record")
        number, file_bytes, loaded, level, count = (f.u(at + o, n) for o, n in
                                                    ((0, 8), (24, 8), (32, 8), (44, 1), (48, 4)))
        f.check(level < 7, at + 44, "level")
        f.zero(at + 45, 3)
        f.zero(at + 52, 4)
        f.check(file_bytes <= LIMIT and number < TOP, at, "length or number of a table")
        f.check(count == 1 or count and not level, at + 48, "count of sections")
        f.check(number not in self.tables, at, "table is there already")
        sections = self.sections(f, at + 56, at + size, count)
        for s in sections:
            good = s.minimum == s.maximum == loaded if loaded else True
            f.check(good and s.takes_global == (loaded != 0), at, "global sequence")
        self.tables[number] = {
            "id": f.bytes(at + 8, 16), "bytes": file_bytes, "loaded": loaded, "level": level, "footer": f.u(at + 40, 4),
            "sections": sections, "directory": f.bytes(at + 56, size - 56), "live": {s.keyspace: s for s in sections}}
        return number

    def create_keyspace(self, f, at, size):  # 12.4
        number, name, alignment, operator = self.keyspace_record(f, at, size)
        f.check(self.next_keyspace <= number < 2**32 - 1, at, "id of a keyspace")
        self.next_keyspace = number + 1
        self.keyspaces[number] = (name, alignment)
        self.operators[number] = operator

    def alter_keyspace(self, f, at, size):  # 12.4
        number, name, _, operator = self.keyspace_record(f, at, size)
        if number:
            raise f.unsupported(at, "another keyspace than the default one is altered")
        f.check(name == "default" and operator, at, "alter keyspace")
        self.operators[0] = operator

    def keyspace_record(self, f, at, size):
        f.check(size >= 40, at, "length of a record")
        record, interval, number = f.u(at, 2), f.u(at + 2, 2), f.u(at + 4, 4)
        point, name_bytes, alignment, codec = f.u(at + 36, 1), f.u(at + 37, 1), f.u(at + 20, 1), f.u(at + 18, 1)
        f.check(40 <= record <= size and record % 8 == 0, at, "length of a record")
        operator_bytes = f.u(at + 38, 1)
        if f.u(at + 24, 4):
            raise f.unsupported(at, "required bits of a keyspace")
        if f.u(at + 16, 2) or f.u(at + 19, 1) or alignment not in (0, 3, 4) or point not in (1, 2):
            raise f.unsupported(at, "options of a keyspace")
        if codec > 1:
            raise f.unsupported(at + 18, "zstd")
        level, large, rate = f.u(at + 21, 1), f.u(at + 32, 4), f.bytes(at + 8, 8)
        rate = struct.unpack("<d", rate)[0] if any(rate) else 0
        f.check(1e-6 <= rate <= 0.5 if point == 2 else rate == 0, at + 8, "error rate")
        f.check(level == 0 and f.u(at + 22, 1) <= 6 and 12 <= f.u(at + 23, 1) <= 20, at + 21, "compression")
        f.zero(at + 39, 1)
        f.check(1 <= interval <= 256 and not 0 < large < 64, at, "keyspace record")
        both = name_bytes + operator_bytes
        f.check(name_bytes and record + up(both, 8) == size, at + 37, "names")
        at += record
        f.zero(at + both, size - record - both)
        names = []
        for start, length in ((at, name_bytes), (at + name_bytes, operator_bytes)):
            try:
                name = f.bytes(start, length).decode()
            except UnicodeDecodeError:
                raise f.damaged(at, "name") from None
            f.check(not any(unicodedata.category(c) == "Cc" for c in name), at, "name")
            names.append(name)
        return number, names[0], alignment, names[1]

    def sections(self, f, o, end, count):  # 10.4
        found = []
        for _ in range(count):
            r = o
            f.check(r + 104 <= end, r, "section record beyond its directory")
            record, required, keyspace, codec = f.u(r, 2), f.u(r + 2, 2), f.u(r + 4, 4), f.u(r + 10, 1)
            alignment, block_log2, bounds = f.u(r + 12, 1), f.u(r + 13, 1), f.u(r + 14, 1)
            start, stop, entries, keys, tombstones, fragments, range_bytes, low, high = (
                f.u(r + at, 8) for at in range(16, 88, 8))
            interval, a, b, blocks, files = (f.u(r + at, n) for at, n in ((88, 2), (90, 2), (92, 2), (96, 4), (100, 4)))
            f.check(record >= 104 and record % 8 == 0, r, "length of a section record")
            if required > 1 or f.u(r + 8, 2) or f.u(r + 11, 1) or codec > 2 or alignment not in (0, 3, 4):
                raise f.unsupported(r, "section")
            f.zero(r + 15, 1)
            f.check((range_bytes > 0) == (fragments > 0), r, "tombstones")
            key, o = r + record, r + up(record + a + b, 8)
            f.check(o <= end, r, "bounds beyond the directory")
            f.zero(key + a + b, o - (key + a + b))
            f.check(bounds < 8 and bounds >> 1 <= 2 and (bounds >> 1 != 2 or b == 0), r + 14, "sides of the bounds")
            lower, upper = place(bounds & 1, f.bytes(key, a)), place(bounds >> 1, f.bytes(key + a, b))
            f.check(lower < upper, key, "bounds out of order")
            f.check(start % 8 == stop % 8 == range_bytes % 8 == 0, r + 16, "not a multiple of 8")
            good = start < stop and 1 <= keys <= entries or start == stop and not keys | entries and fragments
            f.check(good and tombstones <= entries and low <= high < TOP and 1 <= interval <= 256, r, "section record")
            f.check(not required or low == high and not tombstones and not fragments, r, "loaded section")
            if codec:
                f.check(12 <= block_log2 <= 20 and 1 <= blocks <= 2**(35 - block_log2), r + 96, "blocks")
                f.check(blocks <= stop - start and entries <= blocks << block_log2 >> 4, r + 96, "blocks")
            else:
                f.check(not blocks | block_log2 and entries <= (stop - start) // 16, r + 96, "entries")
            if codec == 2:
                raise f.unsupported(r + 10, "zstd")
            f.check(o + 24 * files <= end, r + 100, "value files beyond the directory")
            values = [tuple(f.u(o + 24 * i + 8 * j, 8) for j in range(3)) for i in range(files)]
            o += 24 * files
            numbers = [number for number, _, _ in values]
            f.check(numbers == sorted(set(numbers)) and all(0 < n < TOP for n in numbers), r, "value files")
            f.check(all(n and size <= LIMIT for _, n, size in values), r, "value files")
            f.check(sum(n for _, n, _ in values) <= entries - tombstones, r, "value files")
            f.check(not found or found[-1].keyspace < keyspace, r, "sections out of order")
            found.append(Section(keyspace, codec, start, stop, entries, keys, tombstones, range_bytes, fragments, low,
                                 high, alignment, lower, upper, blocks, bool(required), block_log2, numbers, o - r))
        f.check(o == end and found, o, "sections do not fill the directory")
        return found
