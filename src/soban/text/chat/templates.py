"""Chat templates by name, for models that bring none, or another than the one they were taught with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import open_regular, unreadable
from soban.text.chat.template import MAX_SOURCE, ChatTemplate
from soban.text.encodings import decode

MAX_BYTES = 4 * MAX_SOURCE  # the most that so many characters have in UTF-8 or UTF-16

# Users and assistants take turns in all of them; what does not is refused here and mended by `encode_chat`.
TURNS = """\
{% set system = messages[0].content if messages[0].role == 'system' else '' %}
{% set turns = messages[1:] if messages[0].role == 'system' else messages %}
{% for m in turns %}
{% if m.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% endfor %}
"""
# github.com/tatsu-lab/stanford_alpaca, train.py: PROMPT_DICT["prompt_no_input"]
ALPACA = """\
{{ system or 'Below is an instruction that describes a task. Write a response that appropriately completes the request.' }}
{%- for m in turns %}
{{- '\\n\\n### Instruction:\\n' + m.content if m.role == 'user' else '\\n\\n### Response:' + m.content }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '\\n\\n### Response:' }}
{%- endif %}
"""  # noqa: E501
# github.com/lm-sys/FastChat, conversation.py: vicuna_v1.1
VICUNA = """\
{{ system or "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
detailed, and polite answers to the user's questions." }}
{%- for m in turns %}
{{- (' ' if loop.first else '') + 'USER: ' + m.content if m.role == 'user' else ' ASSISTANT: ' + m.content }}
{%- if m.role == 'assistant' %}
{{- eos_token or ' ' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- ' ASSISTANT:' }}
{%- endif %}
"""
# github.com/Beomi/KoAlpaca, KoAlpaca-Polyglot v1.1
KOALPACA = """\
{{- system + '\\n\\n' if system else '' }}
{%- for m in turns %}
{{- '### 질문: ' + m.content + '\\n\\n' if m.role == 'user' else '### 답변: ' + m.content + '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '### 답변:' }}
{%- endif %}
"""
# github.com/meta-llama/llama, llama/generation.py: chat_completion
LLAMA2 = """\
{%- for m in turns %}
{%- set head = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if system and loop.first else '' %}
{%- if m.role == 'user' %}
{{- bos_token }}{{ '[INST] ' + (head + m.content).strip() + ' [/INST]' }}
{%- else %}
{{- ' ' + m.content.strip() + ' ' }}{{ eos_token }}
{%- endif %}
{%- endfor %}
"""
# github.com/openai/openai-python, chatml.md (2023)
CHATML = """\
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
PLAIN = """\
{{- system + '\\n\\n' if system else '' }}
{%- for m in turns %}
{{- 'User: ' + m.content + '\\n\\n' if m.role == 'user' else 'Assistant: ' + m.content + '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'Assistant:' }}
{%- endif %}
"""


@dataclass(frozen=True)
class Named:
    """A template's source, and texts that show that the model has begun to write the other side's turn.

    stops: wherever they are; heads: at the beginning of a line, for within one they may belong to an answer.
    """

    source: str
    stops: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()


def _blank_or_not(*stops: str) -> tuple[str, ...]:
    """The texts with the line breaks before them: the longest that fits is cut off with the text."""
    return tuple(f"{lines}{stop}" for stop in stops for lines in ("", "\n", "\n\n"))


NAMED: Mapping[str, Named] = {
    "alpaca": Named(TURNS + ALPACA, heads=("### Instruction:", "### Response:")),
    "chatml": Named(CHATML, _blank_or_not("<|im_end|>", "<|im_start|>")),
    "koalpaca": Named(TURNS + KOALPACA, heads=("### 질문:", "### 답변:", "### 맥락:")),
    "llama2": Named(TURNS + LLAMA2, ("[INST]", " [INST]", "\n[INST]")),
    "plain": Named(TURNS + PLAIN, heads=("User:", "Assistant:")),
    "vicuna": Named(TURNS + VICUNA, (" USER:",), ("USER:", "ASSISTANT:")),
}


def find_template(name: str | Path) -> ChatTemplate:
    """The template of that name, or in that Jinja file. UserError where there is neither."""
    if template := NAMED.get(str(name)):
        return ChatTemplate(template.source, {}, origin=name, stops=template.stops, heads=template.heads, bos=True)
    if os.path.isfile(name):
        return ChatTemplate(_own_source(Path(name)), {}, origin=Path(name))
    raise UserError(
        "{name}: neither a chat template's name nor a Jinja file", name=name, known=", ".join(NAMED),
        hint="the names are {known}",
    )  # fmt: skip


def _own_source(path: Path) -> str:
    """The text of a Jinja file that somebody has written, in any encoding of Korean text files."""
    with open_regular(path) as file:
        try:
            data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise unreadable(path, error) from None
    if not data.strip():
        raise UserError("{path}: the file is empty", path=path, hint="write a Jinja template into it")
    if len(data) > MAX_BYTES:
        raise UserError(
            "{path}: more than {most} bytes, which no chat template has", path=path, most=MAX_BYTES,
            hint="name a Jinja file, or a template such as chatml",
        )  # fmt: skip
    return decode(data, path)
