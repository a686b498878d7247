#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A slow, strict reader of VMA archives, to compare the real one with.

Shares no code with it, nor with vmagen.py.  Holds the whole archive in memory.

  vmaread.py list ARCHIVE          devices and configs
  vmaread.py check ARCHIVE         exit status 1 and one line if anything is wrong
  vmaread.py sha256 ARCHIVE        one "SHA256  FILENAME" line a disk and config
  vmaread.py extract ARCHIVE DIR   the same as files
"""

import hashlib
import os
import sys

SLOTS, BLOCK, CLUSTER = 59, 4096, 65536


class Damage(Exception):
    def __init__(self, offset, what):
        super().__init__(f"at {offset}: {what}")
        self.offset = offset


def be(data, at, size):
    return int.from_bytes(data[at:at + size], "big")


class Header:
    """Parsed header.  devices: id → (name, size); configs: list of (name, bytes)."""

    def __init__(self, data):
        if data[:4] != b"VMA\0":
            raise Damage(0, "no magic")
        self.size = be(data, 56, 4)
        if be(data, 4, 4) != 1:
            raise Damage(4, "version")
        if self.size <= 12288 or self.size > len(data):
            raise Damage(56, "header size")
        if hashlib.md5(data[:32] + bytes(16) + data[48:self.size]).digest() != data[32:48]:
            raise Damage(32, "header checksum")
        self.uuid, self.ctime = data[8:24], be(data, 24, 8)
        start, length = be(data, 48, 4), be(data, 52, 4)
        if start < 12288 or start + length > self.size:
            raise Damage(48, "blob buffer")
        self.blobs = self.walk(data[start:start + length])
        self.configs = []
        for slot in range(256):
            name, value = be(data, 2044 + 4 * slot, 4), be(data, 3068 + 4 * slot, 4)
            if name or value:
                if value not in self.blobs:
                    raise Damage(3068 + 4 * slot, "config data")
                text = self.name(name)
                if not text:
                    raise Damage(2044 + 4 * slot, "config name")
                self.configs.append((text, self.blobs[value]))
        self.devices = {}
        for dev in range(1, 255):
            at = 4096 + 32 * dev
            text, size = self.name(be(data, at, 4)), be(data, at + 8, 8)
            if text is not None and size:
                self.devices[dev] = (text, size)

    @staticmethod
    def walk(buffer):
        blobs, at = {}, 1
        while at + 2 <= len(buffer):
            size = buffer[at] | buffer[at + 1] << 8
            if at + 2 + size > len(buffer):
                raise Damage(48, "a blob runs past the buffer")
            blobs[at] = buffer[at + 2:at + 2 + size]
            at += 2 + size
        return blobs

    def name(self, pointer):
        blob = self.blobs.get(pointer)
        if blob is None or b"\0" not in blob:
            return None
        return blob.split(b"\0")[0].decode("utf-8", "surrogateescape")


class Reader:
    """
    clusters: (dev, cluster) → list of 16 archive offsets, None for a zero block.
    With salvage, bad places are noted in `damage` and the next good extent is looked for.
    """

    def __init__(self, data, salvage=False):
        self.data, self.header = data, Header(data)
        self.clusters, self.damage, self.counts = {}, [], {}
        at = self.header.size
        while at < len(data):
            try:
                at = self.extent(at)
            except Damage as error:
                if not salvage:
                    raise
                self.damage.append(error)
                at = self.next_good(at + 1)
        if not salvage:
            self.complete()

    def slots(self, at):
        """The used slots of the extent header at `at`, checked: (dev, cluster, mask)."""
        head = self.data[at:at + 512]
        if len(head) < 512:
            raise Damage(at, "short extent header")
        if head[:4] != b"VMAE":
            raise Damage(at, "no extent magic")
        if head[8:24] != self.header.uuid:
            raise Damage(at, "uuid")
        if hashlib.md5(head[:24] + bytes(16) + head[40:]).digest() != head[24:40]:
            raise Damage(at, "extent checksum")
        if be(head, 4, 2):
            raise Damage(at, "reserved field")
        used = []
        for i in range(SLOTS):
            p = 40 + 8 * i
            if head[p + 3]:
                used.append((head[p + 3], be(head, p + 4, 4), be(head, p, 2)))
        blocks = sum(bin(mask).count("1") for _, _, mask in used)
        if blocks != be(head, 6, 2):
            raise Damage(at, "block count")
        if at + 512 + blocks * BLOCK > len(self.data):
            raise Damage(at, "data are cut off")
        return used, 512 + blocks * BLOCK

    def extent(self, at):
        used, size = self.slots(at)
        place, new, counts = at + 512, {}, dict(self.counts)
        for dev, cluster, mask in used:
            if dev not in self.header.devices:
                raise Damage(at, f"unknown device {dev}")
            name, length = self.header.devices[dev]
            if name == "vmstate":
                if cluster != counts.get(dev, 0):
                    raise Damage(at, "vmstate is out of order")
                counts[dev] = cluster + 1
            else:
                for i in range(16):
                    if mask >> i & 1 and cluster * CLUSTER + i * BLOCK >= length:
                        raise Damage(at, "a block beyond the end of the device")
                if cluster * CLUSTER >= length:
                    raise Damage(at, "a cluster beyond the end of the device")
            if (dev, cluster) in self.clusters or (dev, cluster) in new:
                raise Damage(at, f"device {dev} cluster {cluster} twice")
            new[dev, cluster] = offsets = []
            for i in range(16):
                offsets.append(place if mask >> i & 1 else None)
                place += BLOCK * (mask >> i & 1)
        self.clusters.update(new)
        self.counts = counts
        return at + size

    def next_good(self, at):
        while True:
            at = self.data.find(b"VMAE", at)
            if at < 0:
                return len(self.data)
            try:
                self.slots(at)
                return at
            except Damage:
                at += 1

    def complete(self):
        for dev, (name, size) in self.header.devices.items():
            if name != "vmstate":
                for cluster in range(-(-size // CLUSTER)):
                    if (dev, cluster) not in self.clusters:
                        raise Damage(len(self.data), f"device {dev} cluster {cluster} is missing")

    def disk_size(self, dev):
        name, size = self.header.devices[dev]
        return self.counts.get(dev, 0) * CLUSTER if name == "vmstate" else size

    def cluster(self, dev, number):
        """Its 65536 bytes, or None where it is missing."""
        offsets = self.clusters.get((dev, number))
        if offsets is None:
            return None
        return b"".join(bytes(BLOCK) if o is None else self.data[o:o + BLOCK] for o in offsets)

    def disk(self, dev):
        size = self.disk_size(dev)
        out = bytearray()
        for number in range(-(-size // CLUSTER)):
            out += self.cluster(dev, number)
        return bytes(out[:size])

    def data_blocks(self, dev):
        return sum(o is not None for (d, _), offsets in self.clusters.items() if d == dev
                   for o in offsets)

    def files(self):
        """filename → device id, for archives whose names need no escaping."""
        return {"vmstate.bin" if name == "vmstate" else f"disk-{name}.raw": dev
                for dev, (name, _) in self.header.devices.items()}


def load(path, salvage=False):
    with open(path, "rb") as f:
        return Reader(f.read(), salvage)


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("list", "check", "sha256", "extract"):
        sys.exit(__doc__)
    command, path = sys.argv[1:3]
    try:
        reader = load(path)
    except Damage as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    everything = {name: reader.disk(dev) for name, dev in reader.files().items()}
    everything.update(reader.header.configs)
    if command == "list":
        for name, value in reader.header.configs:
            print(f"config {name} {len(value)}")
        for dev, (name, size) in reader.header.devices.items():
            print(f"device {dev} {name} {size}")
    elif command == "sha256":
        for name in sorted(everything):
            print(f"{hashlib.sha256(everything[name]).hexdigest()}  {name}")
    elif command == "extract":
        os.mkdir(sys.argv[3])
        for name, content in everything.items():
            with open(os.path.join(sys.argv[3], name), "xb") as out:
                out.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
