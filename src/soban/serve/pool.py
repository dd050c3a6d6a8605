"""The models of a server: loaded when they are first asked for, unloaded when memory is short or nobody asks."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.hub import neighbours, store
from soban.loading import custom
from soban.loading.custom import BUNDLED, LATEST
from soban.loading.loaded import TooLarge
from soban.loading.locate import locate
from soban.loading.modelfile import Modelfile
from soban.model import Model, load
from soban.serve import errors
from soban.serve.errors import ApiError
from soban.serve.guard import owner
from soban.serve.pump import Job, Pump
from soban.serve.settings import Settings
from soban.talk.answer import Answering

SWEEP = 5.0  # seconds between two looks for models that nobody uses


@dataclass(frozen=True)
class Recipe:
    """What a served model is made of: a base's name, and a Modelfile's settings or an adapter's folder upon it."""

    base: str
    modelfile: Modelfile | None = None
    adapter: str = ""

    @property
    def context(self) -> int | None:
        return self.modelfile.context if self.modelfile else None

    def of(self, model: Model) -> Model:
        """The model made of its base."""
        variant = model.customised(self.modelfile) if self.modelfile else model
        return variant.adapted(self.adapter) if self.adapter else variant


@dataclass(eq=False)
class Base:
    """A model in memory, and the thread that runs its steps; its adapters share both."""

    name: str
    model: Model
    pump: Pump
    pinned: bool  # named when the server was started: it stays until memory is short
    loaded: float = field(default_factory=time.time)
    keep_alive: float = 0.0
    variants: dict["Recipe", Model] = field(default_factory=dict)

    @property
    def expires(self) -> float | None:
        """In `time.monotonic()`'s seconds, counted anew with each request; None: never."""
        return None if self.pinned or self.keep_alive < 0 else self.pump.last + self.keep_alive


@dataclass(eq=False)
class Served:
    """What a request is answered with: a base's model, perhaps with an adapter."""

    name: str
    model: Model
    base: Base
    settings: Settings

    async def start(self, make: Callable[[Model], Answering]) -> Job:
        """A job of the answer that `make` prepares, in a thread of its own: a long prompt takes its time."""
        deadline = time.monotonic() + self.settings.limits.seconds
        job = Job(await self.prepare(make), asyncio.get_running_loop(), deadline)
        self.base.pump.submit(job)
        return job

    async def prepare(self, make: Callable[[Model], Answering]) -> Answering:
        """The answer alone, not begun; it shares no page of the cache with those of another key's owner."""
        try:
            return await asyncio.to_thread(make, self.model.salted(owner.get()))
        except UserError as error:
            raise errors.of(error, _field(error)) from error

    def leave(self, job: Job) -> None:
        """Whoever asked needs no more of it."""
        self.base.pump.leave(job)

    def stay(self, seconds: float | None) -> None:
        """How long a model that the server was not started for stays after its last request: below 0 for ever."""
        if seconds is not None:
            self.base.keep_alive = seconds


def _field(error: UserError) -> str | None:
    name = error.fields.get("name")
    return name if isinstance(name, str) else None


class Pool:
    """All that a server may answer with."""

    def __init__(self, settings: Settings, loader: Callable[..., Model] = load) -> None:
        self.settings, self.loader = settings, loader
        self.bases: dict[str, Base] = {}
        self.lock = asyncio.Lock()
        self.loading: str | None = None
        self.started = time.time()

    def names(self) -> list[str]:
        """What a request may ask for: what the server was started with, or whatever is on this PC."""
        if self.settings.models:
            return [_api_name(name) for name in self.settings.models]
        here = {name for folder in store.models() if folder.complete for name in store.name_of(folder).split(", ")}
        others = [other.name for other in neighbours.neighbours()]
        return [BUNDLED, *sorted(here), *(own.name for own in custom.every()), *others]

    def in_memory(self, name: str) -> Base | None:
        """The base of that name in the API, if it is in memory."""
        return next((base for one, base in self.bases.items() if name in (one, _api_name(one))), None)

    def spelled(self, name: str) -> str:
        """A served name as it was given; ApiError for one that is not served."""
        if not self.settings.models and name in self.bases:
            return name  # in memory, so there is no need to look at the disk
        spellings: Mapping[str, str] = {_api_name(one): one for one in self.settings.models}
        spellings = spellings or {one: one for one in self.names()}
        for spelling in (name, name.removesuffix(LATEST), name + LATEST):
            if spelling in spellings:
                return spellings[spelling]
        listed = ", ".join(spellings)
        raise ApiError(f"the model '{name}' is not served here; there are: {listed}", 404, "model", "model_not_found")

    async def get(self, name: str | None) -> Served:
        """The model of that name, loaded if it is not in memory; None: the only one."""
        if not name:
            names = self.names()
            if len(names) != 1:
                raise ApiError(f"say which model: {', '.join(names)}", 400, "model", "missing_model")
            name = names[0]
        make = await self._guarded(_recipe, self.spelled(name))
        async with self.lock:
            base = self.bases.get(make.base) or await self._load(make.base, make.context)
            base.pump.last = time.monotonic()
            if make.context is not None and make.context > base.model.context:
                raise ApiError(
                    f"num_ctx={make.context} of {name}: {make.base} is loaded with a context of "
                    f"{base.model.context} tokens; start the server with --context {make.context}", 400, "model",
                )  # fmt: skip
            if make not in base.variants:
                base.variants[make] = await self._guarded(make.of, base.model)
        return Served(name, base.variants[make], base, self.settings)

    async def _load(self, name: str, context: int | None = None) -> Base:
        path: Path | None = None if name == BUNDLED else await self._guarded(locate, name)
        self.loading = name
        options = dict(self.settings.load)
        if context is not None and options.get("context") is None:
            options["context"] = context
        try:
            while True:
                try:
                    model = await asyncio.to_thread(self.loader, path, **options)
                    break
                except UserError as error:
                    short = isinstance(error, TooLarge) or isinstance(error.__cause__, MemoryError)
                    if not (short and await self._unload_one()):
                        raise errors.of(error) from error
        finally:
            self.loading = None
        pinned = any(_recipe(one).base == name for one in self.settings.models)
        pump = Pump(model, self.settings.limits.waiting)
        base = self.bases[name] = Base(name, model, pump, pinned, keep_alive=self.settings.keep_alive)
        return base

    async def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(call, *arguments)
        except UserError as error:
            raise errors.of(error, "model") from error

    async def _unload_one(self) -> bool:
        """Gives back the memory of the model that has been idle longest; False if there is none."""
        idle = sorted((base for base in self.bases.values() if base.pump.idle), key=lambda base: base.pump.last)
        if not idle:
            return False
        await self._unload(idle[0])
        return True

    async def _unload(self, base: Base) -> None:
        del self.bases[base.name]
        await asyncio.to_thread(base.pump.close)

    async def unload(self, name: str) -> bool:
        """Ends what a model is writing and gives back its memory; False if it was not in memory."""
        async with self.lock:
            base = self.bases.get((await self._guarded(_recipe, self.spelled(name))).base)
            if base is None:
                return False
            await self._unload(base)
            return True

    async def preload(self, loading: Callable[[str], None] = lambda name: None) -> None:
        """Loads what the server was started with, in that order; `loading` hears the name of each beforehand."""
        for name in self.settings.models:
            loading(name)
            await self.get(_api_name(name))

    async def sweep(self) -> None:
        """Unloads, from time to time, what nobody has used for its time to live."""
        while True:
            await asyncio.sleep(SWEEP)
            async with self.lock:
                for base in list(self.bases.values()):
                    expires = base.expires
                    if expires is not None and base.pump.idle and time.monotonic() > expires:
                        await self._unload(base)

    async def close(self) -> None:
        """Ends everything."""
        async with self.lock:
            for base in list(self.bases.values()):
                await self._unload(base)


def _recipe(word: str) -> Recipe:
    """What a name, a path, or either with +adapter stands for."""
    base, _, adapter = word.partition("+")
    own = custom.described(base)
    return Recipe(own.modelfile.base, own.modelfile, adapter) if own else Recipe(base, None, adapter)


def _api_name(name: str) -> str:
    """A base+adapter as a name in an API: of a path its last part."""
    base, plus, adapter = name.partition("+")
    return f"{Path(base).name if Path(base).exists() else base}{plus}{Path(adapter).name if adapter else ''}"
