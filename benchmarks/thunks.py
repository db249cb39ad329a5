"""What a program compiled for GPUs launches: the list of its thunks, which XLA writes on request.

A thunk is what the host starts at once: a kernel, a call of cuDNN or cuBLAS, a copy. Some only hold others: a loop, a
command buffer (a CUDA graph, which is started as one), a fusion of which only a copy of a slice is left.
"""

import dataclasses
import re

HOLDERS = ("kCommandBuffer", "kWhile", "kConditional", "kSequential", "kDynamicSliceFusion")
# Which the host does not start anything for.
_WAITS = ("kAsyncDone", "kWaitForStreams", "kCopyDone")

_LINE = re.compile(r"^( *)(\d+): (k\w+)")
_IN_GRAPH = "kCommandBuffer"


@dataclasses.dataclass(frozen=True)
class Thunk:
    """A thunk that starts something.

    Attributes:
        kind: as in "kConvolution".
        names: the instruction that it comes from, then those of what holds it, from the innermost.
        graph: number of the command buffer that it is in, 0 for none.
    """

    kind: str
    names: tuple[str, ...]
    graph: int


def read_thunks(sequence: str, metadata: str) -> list[Thunk]:
    """Return the thunks of a program.

    Args:
        sequence: text of XLA's `thunk_sequence_after_thunk_passes`, what is held indented under what holds it.
        metadata: of its `thunk_metadata`, the instruction's name of each number.

    Raises:
        ValueError: a number has no name.
    """
    names = _names(metadata)
    holders: list[tuple[int, str, str, int]] = []  # indentation, kind, name, command buffer
    found: list[Thunk] = []
    graphs = 0
    for line in sequence.splitlines():
        if not (match := _LINE.match(line)):
            continue  # "condition:", "body:"
        indentation, number, kind = len(match.group(1)), int(match.group(2)), match.group(3)
        while holders and holders[-1][0] >= indentation:
            holders.pop()
        graph = holders[-1][3] if holders else 0
        if kind == _IN_GRAPH and not graph:
            graphs += 1
            graph = graphs
        if kind in HOLDERS:
            holders.append((indentation, kind, names.get(number, ""), graph))
        elif kind not in _WAITS:
            if number not in names:
                raise ValueError(f"thunk {number}: found no instruction's name for {line.strip()!r}")
            found.append(Thunk(kind, (names[number], *(name for _, _, name, _ in reversed(holders) if name)), graph))
    return found


def _names(metadata: str) -> dict[int, str]:
    """Return the instruction's name of each number."""
    found = {}
    for entry in metadata.split("thunk_metadata {")[1:]:
        number, name = re.search(r"thunk_id: (\d+)", entry), re.search(r'profile_annotation: "([^"]*)"', entry)
        if number and name:
            found[int(number.group(1))] = name.group(1)
    return found
