"""Networks by name: shapes that have proved themselves, llama2.c's among them."""

from dataclasses import dataclass, replace

from soban.base.errors import UserError


@dataclass(frozen=True)
class Shape:
    """The sizes of a network, but for its vocabulary, which the data brings. Names as in transformers."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    context: int  # longest text in tokens
    window: int = 0  # how many tokens back layers look that do not look back to the beginning; 0: half of the context

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.hidden_size // max(1, self.num_attention_heads)  # none are refused later, with their flag


# 260k, 15m, 42m and 110m: karpathy's stories260K, stories15M, stories42M and stories110M (github.com/karpathy/llama2.c)
PRESETS = {
    "260k": Shape(64, 172, 5, 8, 4, 512),
    "1m": Shape(128, 352, 4, 4, 2, 512),
    "3m": Shape(192, 512, 6, 6, 3, 512),
    "5m": Shape(256, 512, 6, 4, 2, 512),
    "15m": Shape(288, 768, 6, 6, 6, 256),
    "42m": Shape(512, 1376, 8, 8, 8, 1024),
    "110m": Shape(768, 2048, 12, 12, 12, 1024),
}
USUAL = "5m"


def preset(name: str) -> Shape:
    """The shape of that name. Raises UserError for an unknown one."""
    if name.lower() not in PRESETS:
        raise UserError(
            "--preset {name} is not known", name=name, known=", ".join(PRESETS), hint="choose among {known}"
        )
    return PRESETS[name.lower()]


def smaller(name: str) -> str | None:
    """The preset one below."""
    names = list(PRESETS)
    place = names.index(name)
    return names[place - 1] if place else None


def altered(shape: Shape, **changes: int | None) -> Shape:
    """The shape with what is given in place of its own."""
    return replace(shape, **{key: value for key, value in changes.items() if value is not None})
