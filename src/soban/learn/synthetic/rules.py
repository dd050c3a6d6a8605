"""How facts hold and change: what an event needs is looked up in the state, what it makes is written there."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice

from soban.learn.synthetic.table import CLASSES, Clause, Event, Fact

Binding = Mapping[str, str]  # roles to who or what they are
State = dict[Fact, None]  # a set that keeps its order, so that the same facts give the same answers

# Of these, a first word has one last word at a time: a thing one holder, a character one place.
FUNCTIONS = {"at", "held", "owner", "lies", "count"}
ALIKE = {"friend", "gamed", "peace"}  # what is so of two is so in both orders
ANY = "_"


@cache
def is_role(word: str) -> bool:
    """Single letters are roles, other words stand for themselves."""
    return len(word) == 1 and word.isalpha()


def bound(fact: Fact, binding: Binding) -> Fact:
    """The fact with its roles filled in; roles that nobody plays stand for anything."""
    return tuple(binding.get(word, ANY) if is_role(word) else word for word in fact)


def agrees(pattern: Fact, fact: Fact) -> bool:
    """Whether a fact is what a pattern with `_` says."""
    if pattern[0] != fact[0] or len(pattern) != len(fact):
        return False
    return all(p == f or ANY in (p, f) for p, f in zip(pattern, fact, strict=True))


def holds(pattern: Fact, state: State) -> bool:
    """Whether some fact of the state agrees."""
    return pattern in state if ANY not in pattern else any(agrees(pattern, fact) for fact in state)


def always(fact: Fact) -> bool | None:
    """What no story changes: spots are parts of places, numbers follow each other; None where it depends."""
    match fact:
        case ("of", spot, place) if ANY not in (spot, place):
            return spot.startswith(place + "-")
        case ("before", smaller, larger) if ANY not in (smaller, larger):
            return int(smaller) + 1 == int(larger)
        case ("of" | "before", _, _):
            return True
    return None


def solutions(
    clauses: Sequence[Clause], binding: dict[str, str], state: State, old: frozenset[str]
) -> Iterator[Binding]:
    """Every way to fill the free roles so that all clauses hold. Elders (`old`) are wherever they are needed."""
    if not clauses:
        yield binding
        return
    clause, *rest = clauses
    fact = bound(clause.fact, binding)
    fixed = always(fact)
    if fixed is not None:
        holding = fixed
    elif clause.sign == "-":
        holding = not holds(fact, state)
    elif clause.sign == "?":
        rivals = [other for other in state if other[:2] == fact[:2]]
        holding = not rivals or fact in rivals
    elif fact[0] == "at" and fact[1] in old:
        holding = True
    elif ANY not in fact:
        holding = fact in state
    else:
        for other in reversed(list(state)):  # the latest fact first: who just moved is who is meant
            if agrees(fact, other) and (more := matched(clause.fact, other, binding)) is not None:
                yield from solutions(rest, more, state, old)
        return
    if holding:
        yield from solutions(rest, binding, state, old)


def matched(pattern: Fact, fact: Fact, binding: Binding) -> dict[str, str] | None:
    """The binding with the pattern's free roles filled from a fact; no character plays two roles."""
    more = dict(binding)
    for word, value in zip(pattern, fact, strict=True):
        if is_role(word) and word not in more:
            double = CLASSES[word] == "person" and any(CLASSES[r] == "person" and v == value for r, v in more.items())
            if double:
                return None
            more[word] = value
    return more


@cache
def ordered(event: Event) -> tuple[Clause, ...]:
    """What an event needs, facts before what must not be, so that the latter finds its roles filled."""
    return tuple(sorted(event.needs, key=lambda clause: clause.sign == "-"))


def satisfy(event: Event, binding: Binding, state: State, old: frozenset[str]) -> Binding | None:
    """The event's roles filled so that it can happen now, or None."""
    return next(islice(solutions(ordered(event), dict(binding), state, old), 1), None)


def missing(event: Event, binding: Binding, state: State, old: frozenset[str]) -> Fact:
    """The first need that does not hold, to say what is wrong."""
    clauses = ordered(event)
    for count in range(1, len(clauses) + 1):
        if not any(True for _ in solutions(clauses[:count], dict(binding), state, old)):
            sign = "not " if clauses[count - 1].sign == "-" else ""
            return (sign + event.name, *bound(clauses[count - 1].fact, binding))
    return (event.name,)


def strangers(event: Event, binding: Binding, state: State, old: frozenset[str]) -> list[str]:
    """Who or what is spoken of without having been introduced; elders belong to every house."""
    present = [binding[role] for role in event.roles if CLASSES[role] in ("person", "thing") and role in binding]
    familiar = {*old, *(binding.get(role) for role in event.new)}
    return [name for name in present if name not in familiar and ("known", name) not in state]


def happen(event: Event, binding: Binding, state: State) -> None:
    """Writes what an event makes into the state."""
    for role in event.new:
        state.setdefault(("known", binding.get(role, ANY)))
    for clause in sorted(event.makes, key=lambda clause: clause.sign != "-"):
        fact = bound(clause.fact, binding)
        gone = fact if clause.sign == "-" else (*fact[:2], ANY) if fact[0] in FUNCTIONS else None
        if gone is not None:
            for other in [other for other in state if agrees(gone, other)]:
                del state[other]
        if clause.sign != "-":
            for one in {fact, (fact[0], *reversed(fact[1:]))} if fact[0] in ALIKE else {fact}:
                state.pop(one, None)
                state[one] = None


def unfulfilled(state: State) -> list[Fact]:
    """The goals that have not come true."""
    return [fact[1:] for fact in state if fact[0] == "want" and not holds(fact[1:], state)]
