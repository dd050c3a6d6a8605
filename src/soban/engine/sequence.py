"""What the engine works on: requests, the sequences that answer them, and the events that tell of their tokens."""

from collections.abc import Hashable, Sized
from dataclasses import dataclass, field
from typing import Literal

from soban.base.errors import UserError
from soban.engine.constraint import Constraint, Factory
from soban.engine.logprobs import Logprobs
from soban.engine.lookup import Lookup
from soban.engine.sampler import Sampler
from soban.engine.sampling import Sampling
from soban.ops.adapters import Adapter
from soban.ops.formats import Floats

Full = Literal["end", "slide", "wait"]
AHEAD = 64  # events that a reader may be behind before its sequences rest


@dataclass(eq=False)
class Request:
    """A prompt and what is wanted of it.

    Where the context is full, a sequence ends; or it slides: forgets its oldest tokens, save the first `keep` (a BOS,
    say); or it waits: ends as well, but `resume` may let it go on after other tokens.
    """

    prompt: list[int]
    sampling: Sampling
    ends: frozenset[int] = frozenset()  # tokens that end a sequence
    stops: frozenset[int] = frozenset()  # of the ends those that a minimum length does not hold back
    on_full: Full = "end"
    keep: int = 0
    adapter: Adapter | None = None  # sequences of different ones share neither keys nor values
    constraint: Factory | None = None  # what its texts have to be like
    logprobs: int | None = None  # how many of the likeliest tokens each event tells of; None: of none, nor its own
    salt: str = ""  # nor do sequences of different ones

    @property
    def limit(self) -> int | None:
        """How many tokens a sequence gets at the most."""
        return self.sampling.limit(len(self.prompt))

    def sequences(self) -> list["Sequence"]:
        """One for each of its num_return_sequences."""
        return [Sequence(self, index) for index in range(self.sampling.num_return_sequences)]


@dataclass
class NextState:
    """Where a step leaves a sequence's state, and that of its first `until` tokens, if any.

    `border`: that is where a page ends, to be a snapshot; else the way back from a draft.
    """

    slot: int
    saved: int | None = None
    until: int = 0
    border: bool = False


@dataclass(eq=False)
class Sequence:
    """One text in tokens: how many of them the cache holds, and in which blocks."""

    request: Request
    index: int  # which of the request's num_return_sequences
    sampler: Sampler = field(init=False)
    constraint: Constraint | None = field(init=False)
    tokens: list[int] = field(init=False)
    blocks: list[int] = field(default_factory=list)
    cached: int = 0
    state: int | None = None  # the slot with what it carries besides keys and values; None: it has nothing yet
    reused: int = 0  # prompt tokens that another sequence had left in the cache
    produced: int = 0
    dropped: int = 0  # tokens that a sliding context has forgotten
    rotation: int = 0  # the row of rotary frequencies that all of its tokens have
    next: NextState | None = None  # the slots that the step at hand writes
    back: int | None = None  # the slot as it was before the drafted tokens of the step at hand
    moving: int | None = None  # the prefix of its latest snapshot, which the next one may replace
    siblings: list["Sequence"] = field(default_factory=list)  # they begin when this one's prompt is in the cache
    turn: int = 0  # the last step that it had a part in
    lookup: Lookup | None = None  # made when it is first asked
    drafted: int = 0  # tokens that were looked up, and how many of them the model then chose
    accepted: int = 0
    finish_reason: str | None = None
    ended_by: int | None = None  # the token that ended it, which is not among its tokens
    unread: Sized = ()  # its events that its reader has still to fetch

    def __post_init__(self) -> None:
        request = self.request
        self.tokens = list(request.prompt)
        self.sampler = Sampler(request.sampling, self.index, request.ends - request.stops)
        self.sampler.note(request.prompt)
        self.constraint = request.constraint() if request.constraint else None

    @property
    def pending(self) -> int:
        """How many of its tokens are still to be computed."""
        return len(self.tokens) - self.cached

    def room(self, context: int) -> int | None:
        """How many more tokens it may get at the most; None: as many as it likes."""
        rooms = [] if self.request.limit is None else [self.request.limit - self.produced]
        if self.request.on_full == "end":
            rooms.append(context + 1 - len(self.tokens))  # the last one is never fed
        return min(rooms, default=None)

    def choose(self, logits: Floats, context: int) -> int | None:
        """The next token for one row of logits; None: the text is complete, and there is no room for more."""
        constraint, ends = self.constraint, self.request.ends
        if constraint is None:
            return self.sampler.choose(logits)
        token = self.sampler.choose(logits, constraint, ends)
        if token in ends:
            return token
        settled = constraint.settled(token, self.room(context))
        if settled is not None:
            constraint.take(settled)
        return settled

    @property
    def root(self) -> tuple[Hashable, ...]:
        """What its keys and values depend on besides tokens, and whom they are for."""
        return self.rotation, self.request.adapter, self.request.salt

    @property
    def rests(self) -> bool:
        """Whether its reader is so far behind that going on would only take the others' time."""
        return len(self.unread) >= AHEAD


@dataclass(eq=False, slots=True)
class Event:
    """A sequence got a token, or ended: "end" (by a token that is not given), "length", "context" or "error".

    `logprobs` tell of the token that was chosen, the one that ended the text included, where the request wants them.
    """

    sequence: Sequence
    token: int | None
    finish_reason: str | None = None
    error: UserError | None = None
    logprobs: Logprobs | None = None
