#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The commands of a page of the documentation: pages.py PAGE FOLDER puts its XML files into a folder (named by a
comment in their first line), and each block of commands as block-0, block-1, ...

A fenced block says what it is: `sh` are commands; `console` is a session, in which the commands stand behind `$ `;
`xml`, `json`, `text`, `fstab` are none.  No other blocks are allowed, so that no command escapes.  What cannot be run
has <!-- not run: REASON --> in the line before, and <!-- fails: COMMAND --> is there if one begins with that which
must not succeed.
"""

import os
import re
import sys

COMMANDS = ("sh", "console")
OTHERS = ("xml", "json", "text", "fstab")


class Block:
    def __init__(self, page, line, kind, text, mark):
        self.page, self.line, self.kind, self.text = page, line, kind, text
        self.not_run = mark[2] if mark and mark[1] == "not run" else None
        self.fails = mark[2] if mark and mark[1] == "fails" else None

    def __str__(self):
        return f"{self.page}:{self.line}"

    def script(self):
        """What a shell is to run; "" if these are no commands."""
        if self.kind == "console":
            lines, goes_on = [], False
            for line in self.text.splitlines(True):
                if goes_on or line.startswith("$ "):
                    lines.append(line if goes_on else line[2:])
                    goes_on = line.endswith("\\\n")
            return "".join(lines)
        if self.kind != "sh":
            return ""
        return "".join(line.rstrip("\n") + " && exit 99 || true\n" if self.fails and line.startswith(self.fails) else line
                       for line in self.text.splitlines(True))


def blocks(path):
    page, found, current, before = os.path.basename(path), [], None, ""
    manual = page.endswith(".scd") # of a man page all blocks are sessions
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            fence = re.fullmatch(r"```(\w*)\n", line)
            if current is not None:
                if fence:
                    found.append(current)
                    current = None
                else:
                    current.text += line.replace("\\\\", "\\") if manual else line
            elif fence:
                kind = fence[1] or ("console" if manual else "")
                if kind not in COMMANDS + OTHERS:
                    raise ValueError(f"{page}:{number}: a block of '{kind}': is it commands?")
                mark = re.fullmatch(r"<!-- (not run|fails): (.+) -->\n", before)
                current = Block(page, number, kind, "", mark)
            elif re.match(r"    \S", line) and before == "\n":
                raise ValueError(f"{page}:{number}: an indented block: use a fenced one, with its kind")
            before = line
    return found


def main(page, folder):
    commands = 0
    for block in blocks(page):
        name = re.match(r"<!-- (\S+) -->\n", block.text)
        if block.kind == "xml" and name:
            with open(os.path.join(folder, name[1]), "w", encoding="utf-8") as f:
                f.write(block.text[name.end():])
        if block.script() and not block.not_run:
            with open(os.path.join(folder, f"block-{commands}"), "w", encoding="utf-8") as f:
                f.write("set -euo pipefail\n" + block.script())
            commands += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
