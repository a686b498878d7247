# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tables, for the terminal and for README.md, and the machine they were measured on.
"""

import dataclasses
import os
import platform
import time

from measure import number

VERDICT = {True: "pass", False: "**miss**", None: ""}


def machine():
    """One line: what it is, and who else was busy."""
    name = ""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) / (1 << 20)
    return (f"{os.cpu_count()} x {name or platform.machine()}, {memory:.0f} GiB, "
            f"Linux {platform.release()}")


def load():
    return os.getloadavg()[0]


def _target(row):
    if row.at_least is not None:
        return f">= {row.at_least:g}"
    if row.at_most is not None:
        return f"<= {row.at_most:g}"
    return ""


def table(rows):
    """Markdown, in columns that also read well as they are."""
    lines = [["figure", "measured", "middle half", "target", ""]]
    for row in rows:
        lines.append([row.figure, f"{number(row.value)} {row.unit}".strip(),
                      f"{number(row.low)}-{number(row.high)}", _target(row),
                      VERDICT[row.passed()]])
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    lines.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
            for line in lines]


def section(case, rows, details, conditions):
    lines = [conditions, ""] + table(rows)
    if details:
        lines += ["", *details]
    return lines


def conditions(bench, before, after):
    """How one case was measured."""
    text = (f"{time.strftime('%Y-%m-%d')}, {machine()}; {bench.size / (1 << 30):g} GiB, "
            f"{bench.runs} runs; load {before:.1f} before, {after:.1f} after")
    if bench.quick:
        text += "; --quick: index archives of a tenth of the size"
    if bench.nice:
        text += f"; at nice {bench.nice}"
    if before > 0.5:
        text += ". **The machine was busy with other work**: take the figures as rough"
    return text + "."


def rewrite(path, sections):
    """Replaces what stands between <!-- NAME: begin --> and <!-- NAME: end --> in a file."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for name, lines in sections.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        _, found_end, tail = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"{path}: no markers {begin} and {end}")
        text = head + begin + "\n" + "\n".join(lines) + "\n" + end + tail
    temporary = path + ".new"
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(temporary, path)


def as_json(rows):
    return [{**dataclasses.asdict(row), "pass": row.passed()} for row in rows]
