# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the writers of the test guest (guest/init.c) write: the contents of its disks after any number
of steps, and from them whether images of the disks are of one point in time.
"""

import contextlib
import struct
from array import array

SECTOR = 512
LOG_SECTORS = 128
HOT_SECTORS = 512
MASK = (1 << 64) - 1
LOG_MAGIC = 0x474F4C53464D56
CHUNK = 1 << 20


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Mismatch(AssertionError):
    pass


class Model:
    """The disks of one guest.  `check` may be called again and again; steps only ever grow."""

    def __init__(self, sizes, writers=2):
        self.sizes = list(sizes)
        self.writers = writers
        self.regions = [(s // SECTOR // 4 * 3 - LOG_SECTORS) // max(writers, 1) for s in sizes]
        # step << 8 | writer << 1 | zeros; 0 is a sector that was never written.
        self.state = [array("Q", bytes(8 * (LOG_SECTORS + r * writers))) for r in self.regions]
        self.done = [[0] * writers for _ in sizes]

    def extent(self, writer, step, disk):
        """(first sector, count, zeros) of a step: the same arithmetic as in init.c."""
        region = self.regions[disk]
        h = mix((mix((mix(step) + writer) & MASK) + disk) & MASK)
        kind, size = h & 15, h >> 4 & 7
        hot = (h >> 7 & 3) == 0
        align = 1
        if kind == 1 or size == 6:
            count = align = 128
        elif size <= 2:
            count = 1 + (h >> 16 & 7)
        elif size <= 4:
            count = align = 8
        elif size == 5:
            count = 1 + (h >> 16 & 255)
        else:
            align = 8
            count = 8 * (1 + (h >> 16 & 7))
        span = HOT_SECTORS if hot else region
        first = LOG_SECTORS + writer * region + mix(h) % (span - count - align + 1)
        first = (first + align - 1) // align * align
        return first, count, kind <= 1

    def _advance(self, disk, writer, step):
        if step < self.done[disk][writer]:
            raise Mismatch(f"disk {disk}, writer {writer}: step {step} after "
                           f"{self.done[disk][writer]}: time went backwards")
        state = self.state[disk]
        for n in range(self.done[disk][writer] + 1, step + 1):
            first, count, zeros = self.extent(writer, n, disk)
            state[first:first + count] = array("Q", [n << 8 | writer << 1 | zeros]) * count
        self.done[disk][writer] = step

    @staticmethod
    def contents(disk, sector, state):
        if state == 0 or state & 1:
            return bytes(SECTOR)
        return struct.pack("<QQ", state >> 8 | (state >> 1 & 127) << 56,
                           sector | disk << 56) * (SECTOR // 16)

    @staticmethod
    def log(disk, writer, step):
        if step == 0:
            return bytes(SECTOR)
        return struct.pack("<QQQQ", LOG_MAGIC, step, writer, disk) * (SECTOR // 32)

    def steps(self, image, disk):
        """The steps that an image's log sectors tell, one a writer."""
        found = []
        image.seek(0)
        for writer in range(self.writers):
            data = image.read(SECTOR)
            words = struct.unpack_from("<QQ", data)
            step = words[1] if words[0] == LOG_MAGIC else 0
            if data != self.log(disk, writer, step):
                raise Mismatch(f"disk {disk}: log sector of writer {writer} is torn: {data[:48]}")
            found.append(step)
        return found

    def check(self, images, torn=False):
        """
        Compares open images (binary; one a disk, None: that disk is gone) with the one point in time that they can be of; returns the steps.  Beyond the writes that had ended, each
        writer may have one more in the images, whole (or, if `torn`, any sectors of it).
        """
        steps = [self.steps(image, d) if image else None for d, image in enumerate(images)]
        there = [d for d, image in enumerate(images) if image]
        ahead = {}                  # (disk, writer) -> step whose extent may be there
        for w in range(self.writers):
            row = [steps[d][w] for d in there]
            if any(b > a or a - b > 1 for a, b in zip(row, row[1:])) or row[0] - row[-1] > 1:
                raise Mismatch(f"writer {w}: steps {row} of its disks are of no one point in time")
            n = row[-1]
            behind = [d for d in there if steps[d][w] == n]
            next_disk = behind[0] if len(behind) < len(there) else there[0]
            ahead[next_disk, w] = n + 1
        for d in there:
            for w in range(self.writers):
                self._advance(d, w, steps[d][w])
            self._compare(images[d], d, steps[d],
                          {w: n for (disk, w), n in ahead.items() if disk == d}, torn)
        return steps[there[0]]

    def check_paths(self, paths, torn=False):
        with contextlib.ExitStack() as stack:
            return self.check([stack.enter_context(open(p, "rb")) if p else None for p in paths],
                              torn)

    def _compare(self, image, disk, steps, ahead, torn):
        state = self.state[disk]
        image.seek(0)
        image.read(LOG_SECTORS * SECTOR)
        sector = LOG_SECTORS
        new = set()                 # writers whose next extent is there
        while sector < len(state):
            count = min(CHUNK // SECTOR, len(state) - sector)
            data = image.read(count * SECTOR)
            if len(data) != count * SECTOR:
                raise Mismatch(f"disk {disk} ends at {sector * SECTOR + len(data)}")
            pack, size = struct.pack, SECTOR // 16
            want = b"".join([
                bytes(SECTOR) if s == 0 or s & 1 else
                pack("<QQ", s >> 8 | (s >> 1 & 127) << 56, i | disk << 56) * size
                for i, s in enumerate(state[sector:sector + count], sector)])
            if data != want:
                for i in range(count):
                    part = slice(i * SECTOR, (i + 1) * SECTOR)
                    if data[part] != want[part]:
                        new.add(self._next(disk, sector + i, data[part], steps, ahead))
            sector += count
        for w, n in ahead.items():
            if w in new and not torn:
                first, sectors, zeros = self.extent(w, n, disk)
                for s in range(first, first + sectors):
                    image.seek(s * SECTOR)
                    if image.read(SECTOR) != self.contents(disk, s, n << 8 | w << 1 | zeros):
                        raise Mismatch(f"disk {disk}: step {n} of writer {w} is there in part: "
                                       f"not sector {s} of {first}+{sectors}")

    def _next(self, disk, sector, data, steps, ahead):
        """The writer whose next extent explains this sector."""
        for w, n in ahead.items():
            first, count, zeros = self.extent(w, n, disk)
            if (first <= sector < first + count
                    and data == self.contents(disk, sector, n << 8 | w << 1 | zeros)):
                return w
        got = struct.unpack_from("<QQ", data)
        state, low = self.state[disk][sector], (1 << 56) - 1
        raise Mismatch(
            f"disk {disk}, sector {sector} (cluster {sector // 128}): has step {got[0] & low} of "
            f"writer {got[0] >> 56} for sector {got[1] & low}, not step {state >> 8} of writer "
            f"{state >> 1 & 127}{' (zeros)' if state & 1 else ''}; the steps are {steps}")
