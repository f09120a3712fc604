"""Texts as tokens: a question as a prompt, a solution as what a model would have written."""

from __future__ import annotations

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
    Raises UserError where the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"no chat template: {tokenizer.name_or_path}: use a model that was tuned to follow "
            "instructions"
        )
    ids: list[int] = tokenizer.apply_chat_template(
        messages(question, prompt),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
        **(prompt.teacher_template if role == "teacher" else prompt.template),
    )
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
