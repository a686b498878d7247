#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Writes VMA archives for tests, and the disks that a correct reader must get out of them.

Shares no code with the programs it tests, nor with vmaread.py: what two of them misunderstand in the
same way would never be noticed.  The same layout and seed always give the same bytes.

  vmagen.py LAYOUT ARCHIVE [--disks DIR] [--seed N]   see `vmagen.py --list`
  vmagen.py all DIR                                   DIR/LAYOUT.vma and DIR/LAYOUT/FILENAME
  vmagen.py huge ARCHIVE [--size BYTES]               full extents, their payload a hole
  vmagen.py empty ARCHIVE [--size BYTES]              one all-zero disk: bare headers in a row

The layouts print one "SHA256  FILENAME" line a file; the last two print their facts as JSON.
"""

import argparse
import hashlib
import json
import os
import random
import struct
import sys

BLOCK, CLUSTER, SLOTS = 4096, 65536, 59
FIXED = 12288                       # everything of the header before the blob buffer
EXTENT = struct.Struct(">4sHH16s16s" + "HBBI" * SLOTS)
assert EXTENT.size == 512


class Disk:
    def __init__(self, dev, name, data, size=None):
        self.dev, self.name, self.data = dev, name, bytes(data)
        # The size in the header; only vmstate's may differ from the length of its data.
        self.size = len(self.data) if size is None else size
        self.vmstate = name == "vmstate"
        self.filename = "vmstate.bin" if self.vmstate else f"disk-{name}.raw"

    def clusters(self):
        return -(-len(self.data) // CLUSTER)

    def block(self, cluster, i):
        """Block i of a cluster, padded with zeros; None where it lies beyond the end."""
        at = cluster * CLUSTER + i * BLOCK
        if at >= len(self.data):
            return None
        return self.data[at:at + BLOCK].ljust(BLOCK, b"\0")


class Archive:
    def __init__(self, seed, disks=(), configs=(), order="sequential", slots=58, gaps=False,
                 store_zeros=0.0, header_extra=0, blob_gap=0, reserved_byte=0):
        self.rng = random.Random(seed)
        self.uuid = self.rng.randbytes(16)
        self.ctime = 1_600_000_000 + seed
        self.disks, self.configs = list(disks), list(configs)
        self.order, self.slots, self.gaps = order, slots, gaps
        self.store_zeros, self.reserved_byte = store_zeros, reserved_byte
        self.header_extra, self.blob_gap = header_extra, blob_gap

    def header(self):
        blobs = bytearray(1)

        def blob(content):
            at = len(blobs)
            blobs.extend(struct.pack("<H", len(content)) + content)
            return at

        fixed = bytearray(FIXED)
        for slot, (name, content) in self.configs:
            struct.pack_into(">I", fixed, 2044 + 4 * slot, blob(name.encode() + b"\0"))
            struct.pack_into(">I", fixed, 3068 + 4 * slot, blob(content))
        for disk in self.disks:
            struct.pack_into(">I4xQ", fixed, 4096 + 32 * disk.dev,
                             blob(disk.name.encode() + b"\0"), disk.size)
        size = -(-(FIXED + self.blob_gap + len(blobs)) // 512) * 512 + self.header_extra
        struct.pack_into(">4sI16sQ16xIII", fixed, 0, b"VMA\0", 1, self.uuid, self.ctime,
                         FIXED + self.blob_gap, len(blobs), size)
        head = bytearray(fixed + bytes(self.blob_gap) + blobs)
        head.extend(bytes(size - len(head)))
        head[32:48] = hashlib.md5(head).digest()
        return bytes(head)

    def listing(self):
        """(disk, cluster) of everything, in the order in which it stands in the archive."""
        rows = [[(d, c) for c in range(d.clusters())] for d in self.disks]
        if self.order == "sequential":
            return [x for row in rows for x in row]
        if self.order == "interleaved":
            depth = max(map(len, rows), default=0)
            return [row[i] for i in range(depth) for row in rows if i < len(row)]
        if self.order == "reversed":
            return [x for row in reversed(rows)
                    for x in (row if row[0][0].vmstate else row[::-1])]
        # shuffled, but vmstate must keep its order
        everything = [x for row in rows for x in row]
        self.rng.shuffle(everything)
        state = iter([x for row in rows for x in row if x[0].vmstate])
        return [next(state) if x[0].vmstate else x for x in everything]

    def stored(self, disk, cluster):
        """(mask, bytes) of a cluster.  A zero block may be stored too; that is legal."""
        mask, parts = 0, []
        for i in range(16):
            block = disk.block(cluster, i)
            if block is None:
                break
            if block.count(0) != BLOCK or self.rng.random() < self.store_zeros:
                mask |= 1 << i
                parts.append(block)
        return mask, b"".join(parts)

    def extents(self):
        """(header, payload) of each extent."""
        rest = self.listing()
        while rest:
            room = self.rng.randint(1, SLOTS) if self.slots == "random" else self.slots
            take, rest = rest[:room], rest[room:]
            places = (sorted(self.rng.sample(range(SLOTS), len(take))) if self.gaps
                      else range(len(take)))
            fields, payload = [0, 0, 0, 0] * SLOTS, []
            for place, (disk, cluster) in zip(places, take):
                mask, data = self.stored(disk, cluster)
                fields[4 * place:4 * place + 4] = mask, self.reserved_byte, disk.dev, cluster
                payload.append(data)
            payload = b"".join(payload)
            yield extent_header(self.uuid, len(payload) // BLOCK, fields), payload

    def write(self, path):
        with open(path, "wb") as out:
            out.write(self.header())
            for head, payload in self.extents():
                out.write(head)
                out.write(payload)

    def truth(self):
        """filename → content of everything a reader must find."""
        found = {d.filename: d.data for d in self.disks}
        found.update({name: content for _, (name, content) in self.configs})
        return found


def extent_header(uuid, blocks, fields):
    plain = EXTENT.pack(b"VMAE", 0, blocks, uuid, bytes(16), *fields)
    return plain[:24] + hashlib.md5(plain).digest() + plain[40:]


def content(rng, size, density):
    """Random bytes in a share of the blocks, in runs, as real disks have them."""
    data = bytearray(size)
    at = 0
    while at < size:
        run = min(size - at, BLOCK * rng.choice((1, 1, 2, 3, 5, 16, 16, 40)))
        if rng.random() < density:
            data[at:at + run] = rng.randbytes(run)
        at += run
    if density and size and not data[-1]:
        data[-1] = 0x5a             # the tail bytes are where readers go wrong
    return data


CONF = (0, ("qemu-server.conf", b"bootdisk: scsi0\nmemory: 512\n"))
MIB = 1 << 20


def ordered(rng, seed):
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 6 * MIB, 0.7))], [CONF], slots=59)


def slots_58(rng, seed):
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 9 * MIB + 512, 0.9))], [CONF])


def out_of_order(rng, seed):
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 12 * MIB + 4096, 0.6)),
                          Disk(2, "drive-scsi1", content(rng, 3 * MIB, 0.6))],
                   [CONF], order="shuffled")


def backwards(rng, seed):
    return Archive(seed, [Disk(7, "drive-virtio0", content(rng, 8 * MIB, 0.8))], [CONF],
                   order="reversed", slots=59)


def interleaved(rng, seed):
    sizes = (4 * MIB, 7 * MIB + 1024, 540672, 2 * MIB + 65536)
    return Archive(seed, [Disk(3 * i + 1, f"drive-scsi{i}", content(rng, n, 0.6))
                          for i, n in enumerate(sizes)], [CONF], order="interleaved")


def sparse(rng, seed):
    data = bytearray(64 * MIB)
    for _ in range(60):
        at = rng.randrange(0, len(data), 512)
        data[at:at + 3000] = rng.randbytes(3000)[:len(data) - at]
    return Archive(seed, [Disk(1, "drive-sata0", data)], [CONF])


def zero(rng, seed):
    return Archive(seed, [Disk(1, "drive-ide0", bytes(5 * MIB))], [CONF])


def devices_254(rng, seed):
    return Archive(seed, [Disk(dev, f"drive-d{dev}",
                               content(rng, rng.randint(1, 3 * CLUSTER), 0.7))
                          for dev in range(1, 255)], [CONF], order="shuffled", slots="random")


def unaligned(rng, seed):
    sizes = (1, 511, 512, 513, 1000, 4095, 4096, 4097, 65535, 65536, 65537, 65636, 65536 + 4096,
             131072 + 512, 59 * CLUSTER + 1, 58 * CLUSTER - 1)
    return Archive(seed, [Disk(i + 1, f"drive-n{n}", content(rng, n, 0.8))
                          for i, n in enumerate(sizes)], [CONF], order="interleaved")


def vmstate(rng, seed):
    # Twelve clusters where the header promises five and a half: the estimate is often too small.
    state = content(rng, 12 * CLUSTER, 0.6)
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 3 * MIB, 0.6)),
                          Disk(2, "vmstate", state, size=5 * CLUSTER + CLUSTER // 2)],
                   [CONF], order="shuffled", slots=20)


def vmstate_short(rng, seed):
    # Fewer clusters than the estimate: the usual case, and nothing is missing.
    return Archive(seed, [Disk(1, "vmstate", content(rng, 7 * CLUSTER, 0.6), size=512 * MIB),
                          Disk(2, "drive-scsi0", content(rng, 2 * MIB, 0.6))],
                   [CONF], order="interleaved")


def one_per_extent(rng, seed):
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 3 * MIB + 5000, 0.6))], [CONF],
                   order="shuffled", slots=1)


def odd_header(rng, seed):
    # Every extent then stands at an offset that is no multiple of 512.
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 4 * MIB, 0.6))], [CONF],
                   header_extra=333, order="shuffled", slots="random")


def far_blobs(rng, seed):
    return Archive(seed, [Disk(254, "drive-scsi0", content(rng, MIB, 0.6))], [CONF],
                   blob_gap=1536 + 3)


def many_configs(rng, seed):
    configs = [(slot, (f"config-{slot:03d}.conf", rng.randbytes(rng.choice((0, 1, 100, 3000)))))
               for slot in range(0, 256, 3)]
    configs.append((255, ("largest.bin", rng.randbytes(65535))))
    configs = [c for c in configs if c[0] != 255 or c[1][0] == "largest.bin"]
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, MIB, 0.5))], configs)


def random_masks(rng, seed):
    return Archive(seed, [Disk(1, "drive-scsi0", content(rng, 7 * MIB, 0.5)),
                          Disk(200, "drive-scsi1", content(rng, 2 * MIB + 100, 0.5))],
                   [CONF], order="shuffled", slots="random", gaps=True, store_zeros=0.5,
                   reserved_byte=0xee)


def tiny(rng, seed):
    # As small as damage tests want it: three extents, every kind of cluster.
    data = content(rng, 4 * CLUSTER + 700, 0.4)
    data[CLUSTER:2 * CLUSTER] = bytes(CLUSTER)
    return Archive(seed, [Disk(1, "drive-scsi0", data),
                          Disk(2, "drive-scsi1", content(rng, 2 * CLUSTER, 0.3))],
                   [CONF], order="interleaved", slots=3)


LAYOUTS = {f.__name__.replace("_", "-"): f for f in (
    ordered, slots_58, out_of_order, backwards, interleaved, sparse, zero, devices_254, unaligned,
    vmstate, vmstate_short, one_per_extent, odd_header, far_blobs, many_configs, random_masks,
    tiny)}


def make(layout, seed=1):
    return LAYOUTS[layout](random.Random(f"{layout} {seed}"), seed)


def huge(path, size):
    """
    An archive of about `size` bytes: real extent headers, 59 full clusters each, whose payload was
    never written and so reads as zeros, but for one marked block in every 1000th extent.
    """
    step = 512 + SLOTS * CLUSTER
    count = max(1, (size - FIXED) // step)
    archive = Archive(1, [Disk(1, "drive-scsi0", b"", size=count * SLOTS * CLUSTER)], [CONF])
    marks = []
    with open(path, "wb", buffering=0) as out:
        head = archive.header()
        os.pwrite(out.fileno(), head, 0)
        for i in range(count):
            first = i * SLOTS
            fields = [x for c in range(first, first + SLOTS) for x in (0xffff, 0, 1, c)]
            at = len(head) + i * step
            os.pwrite(out.fileno(), extent_header(archive.uuid, SLOTS * 16, fields), at)
            if i % 1000 == 0 or i == count - 1:
                slot = i % SLOTS
                mark = struct.pack(">Q", first + slot) * 512
                os.pwrite(out.fileno(), mark, at + 512 + slot * CLUSTER + BLOCK)
                marks.append([(first + slot) * CLUSTER + BLOCK, first + slot])
        os.truncate(out.fileno(), len(head) + count * step)
    return {"archive_size": len(head) + count * step, "extents": count,
            "disk": "disk-drive-scsi0.raw", "disk_size": count * SLOTS * CLUSTER, "marks": marks}


def empty(path, size):
    """One disk of `size` bytes of which only the very last cluster holds data."""
    clusters = -(-size // CLUSTER)
    archive = Archive(1, [Disk(1, "drive-scsi0", b"", size=size)], [CONF])
    with open(path, "wb", buffering=1 << 20) as out:
        out.write(archive.header())
        for first in range(0, clusters, 58):
            last = min(first + 58, clusters)
            fields = [x for c in range(first, last) for x in (0, 0, 1, c)]
            fields += [0] * (4 * SLOTS - len(fields))
            if last == clusters:
                fields[4 * (last - first - 1)] = 1
            out.write(extent_header(archive.uuid, int(last == clusters), fields))
        out.write(b"\xa5" * BLOCK)
    return {"archive_size": os.path.getsize(path), "extents": -(-clusters // 58),
            "disk": "disk-drive-scsi0.raw", "disk_size": size,
            "data_at": (clusters - 1) * CLUSTER}


def write_disks(archive, folder):
    os.makedirs(folder, exist_ok=True)
    for name, data in archive.truth().items():
        with open(os.path.join(folder, name), "wb") as out:
            for at in range(0, len(data), CLUSTER):
                piece = data[at:at + CLUSTER]
                if piece.count(0) == len(piece):
                    out.seek(len(piece), os.SEEK_CUR)
                else:
                    out.write(piece)
            out.truncate(len(data))


def main():
    parser = argparse.ArgumentParser(description="Makes a VMA archive for tests.")
    parser.add_argument("--list", action="store_true", help="print the layouts")
    parser.add_argument("--disks", help="write the true contents into this folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=10**12, help="of a huge or empty archive")
    parser.add_argument("layout", nargs="?")
    parser.add_argument("archive", nargs="?")
    args = parser.parse_args()
    if args.list:
        print("\n".join(LAYOUTS))
    elif args.layout == "all" and args.archive:
        for layout in LAYOUTS:
            archive = make(layout, args.seed)
            write_disks(archive, os.path.join(args.archive, layout))
            archive.write(os.path.join(args.archive, layout + ".vma"))
    elif args.layout in ("huge", "empty") and args.archive:
        print(json.dumps({"huge": huge, "empty": empty}[args.layout](args.archive, args.size)))
    elif args.layout in LAYOUTS and args.archive:
        archive = make(args.layout, args.seed)
        archive.write(args.archive)
        if args.disks:
            write_disks(archive, args.disks)
        for name, data in sorted(archive.truth().items()):
            print(f"{hashlib.sha256(data).hexdigest()}  {name}")
    else:
        parser.error("a known layout and an archive are needed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
