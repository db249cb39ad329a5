"""Finding the network in what other programs save: under a trainer's names, behind prefixes, averaged or not.

A checkpoint is one flat dictionary here, of dotted names, whether its file nests dictionaries or not.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from msnlan_jax.errors import InputError
from msnlan_jax.weights.damage import shown

# Parts of a name that stand for a module around another, which computes the same.
_AROUND = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_BEGINNING = re.compile(r"(?:^|\.)(?=(?:sub_mean|add_mean|fusion|fusion_list\.\d+|head\.0|body\.\d+|tail\.[01])\.)")
_AVERAGED = re.compile(r"(?i:(?:^|[._])(?:ema|swa|averaged)(?:[._]|$))|(?<=[a-z])E(?:ma|MA)(?:[._]|$)")
# Of optimisers, whose states may go by the parameters' names.
_OPTIMISER = re.compile(r"(?:^|\.)(?:optim\w*|exp_avg\w*|momentum_buffer)(?:\.|$)")
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_DEEPEST, _MOST = 8, 1_000_000
_MOST_TEXT = 100_000_000  # characters of all names, which dictionaries that are shared make of a few


class Picked(NamedTuple):
    """A network's entries under its own names, and what to tell of how they were found, which may be nothing."""

    entries: dict[str, Any]
    notes: list[str]


def flatten(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Return dotted name → value of nested dictionaries.

    Raises:
        ValueError: when they are nested too deep or hold too much, as one does that holds itself.
    """
    found: dict[str, Any] = {}
    text = 0
    for name, value in _walk(content, "", 0):
        if name in found:
            raise ValueError(f"key {shown(name)} is there twice")
        text += len(name)
        if len(found) == _MOST or text > _MOST_TEXT:
            raise ValueError(f"it holds more than {_MOST:,} entries")
        found[name] = value
    return found


def _walk(content: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        raise ValueError(f"its dictionaries are nested more than {_DEEPEST} deep")
    for key, value in content.items():
        name = prefix + shown(str(key))
        if isinstance(value, Mapping) and value:
            yield from _walk(value, f"{name}.", depth + 1)
        else:
            yield name, value


def pick(entries: Mapping[str, Any], source: str) -> Picked:
    """Find the one network among a checkpoint's entries.

    Averaged weights are preferred. Where nothing resembles this network, everything is returned as it is.

    Args:
        entries: dotted name → value.
        source: file name for messages.

    Raises:
        InputError: when there are several networks, or a name is there twice once prefixes are removed.
    """
    plain: dict[str, Any] = {}
    around: set[str] = set()
    wrapped = {_COUNTER}
    for key, value in entries.items():
        parts = key.split(".")
        around.update(part for part in parts if part in _AROUND)
        name = ".".join(part for part in parts if part not in _AROUND)
        if name in plain:
            raise InputError(f"{source}: key {key} is set twice, with and without {' or '.join(sorted(around))}")
        plain[name] = value
        if parts[0] in _AROUND:
            wrapped.add(name)
    named = [name for name in plain if not _OPTIMISER.search(name)]
    places = Counter(name[: found.start()] for name in named if (found := _BEGINNING.search(name)))
    most = max(places.values(), default=0)
    networks = [place for place, count in places.items() if 2 * count > most]
    averaged = [place for place in networks if _AVERAGED.search(place)]
    chosen = averaged if len(networks) > 1 and averaged else networks
    if len(chosen) > 1:
        raise InputError(f"{source}: found {len(chosen)} networks, {', '.join(chosen)}, expected one, saved alone")
    place = chosen[0] if chosen else ""
    beginning = f"{place}." if place else ""
    mine = [name for name in plain if name.startswith(beginning)]
    if chosen and not place and all(name in wrapped for name in named if _BEGINNING.match(name)):
        mine = [name for name in plain if name in wrapped]  # DeepSpeed's {"module": …, "optimizer": …}
    picked = {name.removeprefix(beginning): plain[name] for name in mine}
    notes = []
    taken = set(mine)
    others = dict.fromkeys(_apart(name, place) for name in plain if name not in taken)
    others = dict.fromkeys((*(other for other in networks if other != place), *others))
    beside = f"beside {', '.join(list(others)[:6])}{', …' if len(others) > 6 else ''}" if others else ""
    if place:
        what = f"{place}, the averaged weights" if _AVERAGED.search(place) else place
        notes.append(f"took {what}{beside and f', {beside}'}")
    elif beside:
        notes.append(f"took what is in {sorted(around)[0]}, {beside}")
    if chosen and picked.pop(_COUNTER, None) is not None:
        notes.append("the averaged weights of an AveragedModel")
    if chosen and around:
        notes.append(f"keys without {', '.join(f'{name}.' for name in sorted(around))}")
    return Picked(picked, notes)


def _apart(name: str, place: str) -> str:
    """Return the beginning of a name, as far as it takes to tell it from a place."""
    parts, others = name.split("."), place.split(".")
    common = next((i for i, (one, two) in enumerate(zip(parts, others, strict=False)) if one != two), len(parts) - 1)
    return ".".join(parts[: common + 1])
