# SPDX-License-Identifier: Apache-2.0
"""The verified workload of the fault harness.

Each worker is a process with a folder of its own below the tested directory. It knows in its own
memory, outside of the file system, what was acknowledged, checks as it goes, and checks everything
at the end. It reports its longest operations so that the harness can say what an application felt
at each fault. Any error of the file system, and any difference, counts; nothing is retried.
What a worker shows while it runs is in shared memory (Board), because an operation may hang.
"""
import errno
import hashlib
import json
import multiprocessing
import os
import random
import sys
import time
import zlib

SLOW_SECONDS = 0.005    # shorter operations are only counted
DIFFERENCES_KEPT = 20   # texts; all are counted


class Board:
    """Shared memory: what each worker is doing now."""

    # Start of the running operation or 0, operations done, start of the newest done, errors,
    # differences.
    FIELDS = 5

    def __init__(self, names):
        self.names = names
        self.values = multiprocessing.Array("d", self.FIELDS * len(names), lock=False)

    def get(self, worker, field):
        return self.values[worker * self.FIELDS + field]

    def set(self, worker, field, value):
        self.values[worker * self.FIELDS + field] = value

    def running_since(self, worker):
        return self.get(worker, 0)

    def newest_done_start(self, worker):
        return self.get(worker, 2)

    def total(self, field):
        return int(sum(self.get(worker, field) for worker in range(len(self.names))))


def content(key, length):
    """Bytes that depend on every part of the key; the same key gives the same bytes."""
    block = hashlib.sha256(key.encode()).digest()
    return (block * (length // len(block) + 1))[:length]


def read_whole(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def write_new(path, data):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class Difference(Exception):
    """What was read is not what was acknowledged."""


class Worker:
    """One kind of operation in a loop. Subclasses have setup, step and verify."""

    name = ""

    def __init__(self, index, board, base, seed):
        self.index, self.board = index, board
        self.dir = os.path.join(base, self.name)
        self.random = random.Random(f"{seed}.{self.name}")
        self.slow = []          # (start, seconds)
        self.counts = {}
        self.problems = []

    def setup(self):
        pass

    def timed(self, kind, call, *arguments):
        """One operation of an application; its time and its error are recorded."""
        start = time.monotonic()
        self.board.set(self.index, 0, start)
        try:
            return call(*arguments)
        finally:
            took = time.monotonic() - start
            self.board.set(self.index, 0, 0)
            self.board.set(self.index, 1, self.board.get(self.index, 1) + 1)
            self.board.set(self.index, 2, start)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if took >= SLOW_SECONDS:
                self.slow.append((start, took, kind))

    def guarded(self, call):
        """Runs a step; counts what goes wrong instead of ending."""
        try:
            call()
        except Difference as difference:
            self.problem(4, f"difference: {difference}")
        except OSError as error:
            code = errno.errorcode.get(error.errno, str(error.errno))
            self.problem(3, f"error {code}: {error}")

    def problem(self, field, text):
        self.board.set(self.index, field, self.board.get(self.index, field) + 1)
        if len(self.problems) < DIFFERENCES_KEPT:
            self.problems.append(text)
            print(f"kill_loop: {self.name}: {text}", file=sys.stderr, flush=True)

    def expect(self, expected, found, what):
        if expected != found:
            if isinstance(expected, (bytes, bytearray)):
                at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b),
                          min(len(expected), len(found)))
                raise Difference(f"{what}: expected {len(expected)} bytes, found {len(found)}, "
                                 f"first difference at byte {at}")
            raise Difference(f"{what}: expected {str(expected)[:200]}, found {str(found)[:200]}")

    def run(self, stop, rate, ready, go, result_path):
        os.mkdir(self.dir)
        self.setup()
        ready.release()
        go.wait()
        due = time.monotonic()
        while not stop.is_set():
            self.guarded(self.step)
            due = max(due + 1.0 / rate, time.monotonic() - 1.0) if rate else 0
            stop.wait(max(0.0, due - time.monotonic())) if rate else None
        self.guarded(self.verify)
        with open(result_path, "w", encoding="utf-8") as out:
            json.dump(dict(slow=self.slow, counts=self.counts, problems=self.problems), out)


class Append(Worker):
    """Appends numbered records, fsync after each; the file is exactly these records."""

    name = "append"

    def setup(self):
        self.path = os.path.join(self.dir, "log")
        self.fd = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        self.records, self.size, self.crc = 0, 0, 0

    def record(self, number):
        body = content(f"{self.name}{number}", 20 + number * 37 % 3000)
        return b"%08d%08d" % (number, len(body)) + body

    def step(self):
        data = self.record(self.records)
        self.timed("append+fsync", self.append, data)
        self.records += 1
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)
        if self.records % 20 == 0:
            found = self.timed("read back", os.pread, self.fd, len(data) + 1, self.size - len(data))
            self.expect(data, found, f"record {self.records - 1}")

    def append(self, data):
        write_all(self.fd, data)
        os.fsync(self.fd)

    def verify(self):
        os.close(self.fd)
        found = read_whole(self.path)
        self.expect(self.size, len(found), "size of the log")
        if zlib.crc32(found) != self.crc:
            at = 0
            for number in range(self.records):
                data = self.record(number)
                self.expect(data, found[at:at + len(data)], f"record {number} of {self.records}")
                at += len(data)


class Create(Worker):
    """Creates, writes and closes files; removes the oldest; all that should be there is there."""

    name = "create"
    KEPT = 3000

    def setup(self):
        self.made, self.removed = 0, 0

    def data(self, number):
        return content(f"{self.name}{number}", number * 977 % 40000)

    def path(self, number):
        return os.path.join(self.dir, f"f{number}")

    def step(self):
        number, self.made = self.made, self.made + 1
        self.timed("create+write+close", write_new, self.path(number), self.data(number))
        if self.made - self.removed > self.KEPT:
            self.check(self.removed)
            self.timed("unlink", os.unlink, self.path(self.removed))
            self.removed += 1
        elif number % 5 == 0:
            self.check(self.random.randrange(self.removed, self.made))

    def check(self, number):
        found = self.timed("open+read+close", read_whole, self.path(number))
        self.expect(self.data(number), found, f"file f{number}")

    def verify(self):
        expected = sorted(f"f{number}" for number in range(self.removed, self.made))
        self.expect(expected, sorted(os.listdir(self.dir)), "files in the folder")
        for number in range(self.removed, self.made):
            self.guarded(lambda number=number: self.check(number))


class Names(Worker):
    """Renames (to a new name, over another), links and unlinks, against a table in memory."""

    name = "rename"

    def setup(self):
        self.table = {}      # name -> key of its content
        self.fresh = 0
        for _ in range(20):
            self.create()

    def path(self, name):
        return os.path.join(self.dir, name)

    def new_name(self):
        self.fresh += 1
        return f"n{self.fresh}"

    def create(self):
        name = self.new_name()
        self.timed("create+write+close", write_new, self.path(name), content(name, 500))
        self.table[name] = name

    def step(self):
        name = self.random.choice(sorted(self.table))
        kind = self.random.choice(("move", "move", "replace", "link", "look"))
        if kind == "move":
            target = self.new_name()
            self.timed("rename", os.rename, self.path(name), self.path(target))
            self.table[target] = self.table.pop(name)
        elif kind == "replace":
            target = self.random.choice(sorted(self.table))
            self.timed("rename over a file", os.rename, self.path(name), self.path(target))
            if target != name and self.table[target] != self.table[name]:
                self.table[target] = self.table.pop(name)
            # Two names of one file: POSIX says that both stay.
        elif kind == "link":
            target = self.new_name()
            self.timed("link", os.link, self.path(name), self.path(target))
            self.table[target] = self.table[name]
            if len(self.table) > 60:
                self.timed("unlink", os.unlink, self.path(name))
                del self.table[name]
        else:
            found = self.timed("open+read+close", read_whole, self.path(name))
            self.expect(content(self.table[name], 500), found, f"file {name}")
        while len(self.table) < 10:
            self.create()

    def verify(self):
        self.expect(sorted(self.table), sorted(os.listdir(self.dir)), "names in the folder")
        for name, key in self.table.items():
            self.expect(content(key, 500), read_whole(self.path(name)), f"file {name}")
            links = sum(1 for other in self.table.values() if other == key)
            self.expect(links, os.stat(self.path(name)).st_nlink, f"links of {name}")


class Unlink(Worker):
    """Makes a file, removes it, and it is gone; folders too."""

    name = "unlink"

    def setup(self):
        self.number = 0

    def step(self):
        self.number += 1
        path = os.path.join(self.dir, f"u{self.number % 50}")
        if self.number % 3 == 0:
            self.timed("mkdir", os.mkdir, path)
            self.timed("rmdir", os.rmdir, path)
        else:
            self.timed("create+write+close", write_new, path, content(path, 100))
            self.timed("unlink", os.unlink, path)
        try:
            self.timed("stat of a removed name", os.stat, path)
        except FileNotFoundError:
            return
        raise Difference(f"{path} is still there after it was removed")

    def verify(self):
        self.expect([], os.listdir(self.dir), "entries in the folder")


class Read(Worker):
    """Reads files that never change."""

    name = "read"
    FILES = 100

    def setup(self):
        for number in range(self.FILES):
            write_new(self.path(number), self.data(number))
        self.large = content("large", 16 << 20)
        write_new(self.path("large"), self.large)

    def path(self, number):
        return os.path.join(self.dir, f"r{number}")

    def data(self, number):
        return content(f"r{number}", number * 1237 % 70000)

    def step(self):
        number = self.random.randrange(self.FILES)
        found = self.timed("open+read+close", read_whole, self.path(number))
        self.expect(self.data(number), found, f"file r{number}")
        offset = self.random.randrange(len(self.large))
        found = self.timed("pread of a large file", self.part, offset)
        self.expect(self.large[offset:offset + 100000], found, f"large file at {offset}")

    def part(self, offset):
        fd = os.open(self.path("large"), os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return os.pread(fd, 100000, offset)
        finally:
            os.close(fd)

    def verify(self):
        for number in range(self.FILES):
            self.expect(self.data(number), read_whole(self.path(number)), f"file r{number}")
        self.expect(self.large, read_whole(self.path("large")), "large file")


class Stat(Worker):
    """Attributes and listings of files that never change."""

    name = "stat"
    FILES = 50

    def setup(self):
        for number in range(self.FILES):
            path = os.path.join(self.dir, f"s{number}")
            write_new(path, b"x" * number)
            os.chmod(path, 0o600 | number % 8)
            os.utime(path, ns=(number, 10**18 + number))

    def step(self):
        number = self.random.randrange(self.FILES)
        status = self.timed("stat", os.stat, os.path.join(self.dir, f"s{number}"))
        self.expect((number, 0o600 | number % 8, 10**18 + number),
                    (status.st_size, status.st_mode & 0o7777, status.st_mtime_ns),
                    f"attributes of s{number}")
        if self.counts["stat"] % 10 == 0:
            self.expect(self.FILES, len(self.timed("listdir", os.listdir, self.dir)), "entries")

    def verify(self):
        for _ in range(100):
            self.step()


class Overwrite(Worker):
    """Random writes into one file, against a copy in memory; some fsync, some truncate."""

    name = "overwrite"
    SIZE = 4 << 20   # largest offset of a write

    def setup(self):
        self.path = os.path.join(self.dir, "data")
        self.fd = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o644)
        self.model = bytearray()
        self.number = 0

    def step(self):
        self.number += 1
        offset = self.random.randrange(self.SIZE)
        length = self.random.randrange(1, 60000)
        if self.number % 25 == 0:
            self.timed("ftruncate", os.ftruncate, self.fd, offset)
            self.model[offset:] = bytes(max(0, offset - len(self.model)))
        elif self.number % 3 == 0:
            found = self.timed("pread", os.pread, self.fd, length, offset)
            self.expect(bytes(self.model[offset:offset + length]), found, f"data at {offset}")
        else:
            data = content(f"o{self.number}", length)
            if offset > len(self.model):
                self.model.extend(bytes(offset - len(self.model)))
            put = self.timed("pwrite", os.pwrite, self.fd, data, offset)
            self.expect(length, put, "bytes written")
            self.model[offset:offset + length] = data
        if self.number % 10 == 0:
            self.timed("fsync", os.fsync, self.fd)

    def verify(self):
        os.close(self.fd)
        self.expect(bytes(self.model), read_whole(self.path), "overwritten file")


WORKERS = (Append, Create, Names, Unlink, Read, Stat, Overwrite)
