"""Texts as tokens: a question as a prompt, a solution as what a model would have written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.sections import Prompt

PLAIN = Prompt()
_PROBE = "xyzzy"  # a text that no template holds


def messages(question: str, prompt: Prompt = PLAIN) -> list[dict[str, str]]:
    """A question, with the profile's instruction behind it, as a conversation of one turn."""
    text = f"{question}\n\n{prompt.instruction}" if prompt.instruction else question
    return [{"role": "user", "content": text}]


def prompt_ids(
    tokenizer: Any, question: str, prompt: Prompt = PLAIN, role: str = "base"
) -> list[int]:
    """Token ids of a question as a prompt, ready for the model's answer.

    role: "base" or "teacher"; each has switches of the chat template of its own.
    What looks like a special token in the question is read as the text that it is: a problem cannot
    end its turn, nor answer itself.
    Raises UserError where the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"no chat template: {tokenizer.name_or_path}: use a model that was tuned to follow "
            "instructions"
        )
    asked = messages(question, prompt)
    switches = dict(prompt.teacher_template if role == "teacher" else prompt.template)
    specials = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    if any(special in asked[0]["content"] for special in specials):
        return _ids_beside_forgeries(tokenizer, asked, switches, specials)
    ids: list[int] = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, tokenize=True, return_dict=False, **switches
    )
    return ids


def _ids_beside_forgeries(
    tokenizer: Any, asked: list[dict[str, str]], switches: dict[str, Any], specials: list[str]
) -> list[int]:
    """`prompt_ids` of a conversation whose text spells special tokens.

    A character that the text lacks stands for each spelling while the template is filled in, so
    that the special tokens of the result are the template's own.
    """
    content = asked[0]["content"]
    longest = sorted(specials, key=len, reverse=True)  # one may begin as another does
    unused = (chr(code) for code in range(0xE000, 0xF900) if chr(code) not in content)
    stands_for = dict(zip(unused, longest, strict=False))
    for stand_in, special in stands_for.items():
        content = content.replace(special, stand_in)
    text = tokenizer.apply_chat_template(
        [asked[0] | {"content": content}], add_generation_prompt=True, tokenize=False, **switches
    )
    ids: list[int] = []
    for piece in re.split(f"({'|'.join(map(re.escape, longest))})", text):
        if piece in specials:
            ids.append(tokenizer.convert_tokens_to_ids(piece))
            continue
        for stand_in, special in stands_for.items():
            piece = piece.replace(stand_in, special)
        ids += tokenizer(piece, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def end_of_turn(tokenizer: Any, prompt: Prompt = PLAIN) -> list[int]:
    """The token that the chat template puts behind an answer, as a list of one.

    Read off the template, as a model's EOS token may be another: a base model's is. Raises
    UserError where the template writes no answer, or no special token right behind one.
    """
    turn = [*messages("?", prompt), {"role": "assistant", "content": _PROBE}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, **prompt.template)
    _, answer, rest = text.rpartition(_PROBE)
    behind = tokenizer(rest, add_special_tokens=False).input_ids if answer else []
    if not behind or behind[0] not in tokenizer.all_special_ids:
        raise UserError(
            f"its chat template ends no turn with a token of its own: {tokenizer.name_or_path}: "
            "use a model whose answers end so"
        )
    return behind[:1]


def completion_ids(
    tokenizer: Any, texts: Sequence[str], ended: Sequence[bool], prompt: Prompt = PLAIN
) -> list[list[int]]:
    """Token ids of solutions, each with the end of its turn if its writer `ended` it.

    What looks like a special token in a solution is read as the text that it is.
    """
    if not len(texts):
        return []
    ends = end_of_turn(tokenizer, prompt)
    ids = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids
    return [row + ends if whole else row for row, whole in zip(ids, ended, strict=True)]
