"""The sampling loop against transformers' own `generate`, and its draws against the softmax."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_geometry.models import generation
from finetune_geometry.models.generation import generate
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.settings.errors import UserError

NEW = 24


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request, toy_model):
    """The toy model; several tokens end a row, so that rows end at different steps."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(
        toy_model, dtype=torch.float32, attn_implementation=request.param
    ).eval()
    model.generation_config.eos_token_id = [1, *range(5, model.config.vocab_size, 29)]
    return model


@pytest.fixture(scope="module")
def tokenizer(toy_model):
    return AutoTokenizer.from_pretrained(toy_model, padding_side="left")


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """Prompts of many lengths, not in the order of their lengths."""
    problems = generate_problems("test", 24, 0, Difficulty())
    return [prompt_ids(tokenizer, p.question) for p in problems]


def reference(model, tokenizer, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy completions by transformers, up to and including the token that ends them."""
    padded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    out = model.generate(**padded, max_new_tokens=NEW, do_sample=False)
    ends, completions = set(model.generation_config.eos_token_id), []
    for row in out[:, padded.input_ids.shape[1] :].tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        completions.append(row[:stop])
    return completions


def test_greedy_tokens_are_those_of_transformers(model, tokenizer, prompts):
    assert len({len(p) for p in prompts}) > 10
    expected = reference(model, tokenizer, prompts)
    lengths = {len(c) for c in expected}
    assert len(lengths) > 4  # some rows end early, at different steps
    assert max(lengths) == NEW  # and some do not end at all
    for batch_size in (5, 24, 100):
        found = generate(model, tokenizer, prompts, max_new_tokens=NEW, batch_size=batch_size)
        assert found == expected


@pytest.mark.parametrize(
    "sizes",
    [
        {"GROWTH": 5},  # buffers that grow keep what they hold
        {"BLOCK": 7, "UNREAD": 1000},  # several blocks, each read to its own longest row
        {"BLOCK": 7, "UNREAD": 3, "GROWTH": 9},  # or further
        {"READ_TOKENS": 1},  # one prompt at a time
    ],
    ids=str,
)
def test_the_sizes_of_buffers_and_blocks_change_no_token(
    model, tokenizer, prompts, monkeypatch, sizes
):
    for name, size in sizes.items():
        monkeypatch.setattr(generation, name, size)
    expected = reference(model, tokenizer, prompts)
    assert generate(model, tokenizer, prompts, max_new_tokens=NEW) == expected


def test_a_single_prompt_and_none(model, tokenizer, prompts):
    expected = reference(model, tokenizer, prompts[:1])
    assert generate(model, tokenizer, prompts[:1], max_new_tokens=NEW) == expected
    assert generate(model, tokenizer, [], max_new_tokens=NEW) == []
    # Nothing to read: a prompt of one token is where writing begins.
    expected = reference(model, tokenizer, [prompts[0][:1]] * 2)
    assert generate(model, tokenizer, [prompts[0][:1]] * 2, max_new_tokens=NEW) == expected


def test_equal_prompts_are_read_once(model, tokenizer, prompts, monkeypatch):
    """And each of them is completed as it would be alone."""
    read = 0

    def count(module, inputs, keywords):
        nonlocal read
        ids = keywords["input_ids"]
        read += len(ids) if ids.shape[1] > 1 else 0

    repeated = [prompt for prompt in prompts for _ in range(4)][::-1]
    expected = [c for c in reference(model, tokenizer, prompts) for _ in range(4)][::-1]
    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        assert generate(model, tokenizer, repeated, max_new_tokens=NEW) == expected
        assert read == len(prompts)
        seen: list[list[int]] = []
        again = generate(model, tokenizer, repeated, max_new_tokens=NEW, on_rows=seen.append)
    finally:
        handle.remove()
    assert again == expected
    assert read == len(prompts) + len(repeated)  # each row may be of a model of its own
    assert sorted(seen[0]) == sorted(set(seen[0]))


def test_the_model_is_left_as_it_was(model, tokenizer, prompts):
    ids, attention = torch.tensor([prompts[0]]), model.config._attn_implementation
    before = model(input_ids=ids).logits
    generate(model, tokenizer, prompts, max_new_tokens=2)
    assert model.config._attn_implementation == attention
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(model(input_ids=ids).logits, before)


def test_every_row_may_end_at_its_first_token(model, tokenizer, prompts):
    ends = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = list(range(model.config.vocab_size))
    try:
        found = generate(model, tokenizer, prompts, max_new_tokens=NEW)
    finally:
        model.generation_config.eos_token_id = ends
    assert [len(c) for c in found] == [1] * len(prompts)


def test_the_same_seed_draws_the_same_tokens(model, tokenizer, prompts):
    def sample(seed: int) -> list[list[int]]:
        return generate(
            model, tokenizer, prompts, max_new_tokens=NEW, temperature=1.0, seed=seed, batch_size=8
        )

    assert sample(3) == sample(3)
    assert sample(3) != sample(4)


def test_rows_with_the_same_prompt_are_drawn_independently(model, tokenizer, prompts):
    found = generate(model, tokenizer, prompts[:1] * 16, max_new_tokens=NEW, temperature=1.0)
    assert len({tuple(c) for c in found}) > 12


def test_a_low_temperature_approaches_greedy(model, tokenizer, prompts):
    greedy = generate(model, tokenizer, prompts, max_new_tokens=NEW)
    cold = generate(model, tokenizer, prompts, max_new_tokens=NEW, temperature=1e-4)
    assert np.mean([a == b for a, b in zip(greedy, cold, strict=True)]) > 0.9


class Dice:
    """A model whose next token never depends on anything: its logits are known."""

    device = torch.device("cpu")
    dtype = torch.float32
    config = SimpleNamespace(
        max_position_embeddings=8, num_hidden_layers=0, _attn_implementation="eager"
    )
    generation_config = SimpleNamespace(eos_token_id=99)

    def __init__(self, logits: list[float]) -> None:
        self.logits = torch.tensor(logits)

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def modules(self) -> list:
        return []

    def __call__(self, input_ids, **kwargs) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), 1, -1).clone())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_tempered_softmax(temperature):
    logits, draws = [1.0, 0.0, -1.0, 2.0, 0.5], 20_000
    found = generate(
        Dice(logits), SimpleNamespace(pad_token_id=0), [[1]] * draws, max_new_tokens=1,
        temperature=temperature, seed=1, batch_size=4_096,
    )  # fmt: skip
    counts = np.bincount([tokens[0] for tokens in found], minlength=5)
    weights = np.exp(np.array(logits) / temperature)
    assert chisquare(counts, weights / weights.sum() * draws).pvalue > 1e-3


def test_a_context_that_is_too_short_is_refused(model, tokenizer, prompts):
    limit = model.config.max_position_embeddings
    longest = max(map(len, prompts))
    room = limit - longest
    with pytest.raises(UserError, match=f"prompt of {longest} tokens.*context of {limit}.*lower"):
        generate(model, tokenizer, prompts, max_new_tokens=room + 1)


def test_equal_prompts_are_read_once_and_completed_alike(model, tokenizer, prompts):
    alone = generate(model, tokenizer, prompts, max_new_tokens=12)
    tripled = generate(model, tokenizer, [*prompts, *prompts[::-1], *prompts], max_new_tokens=12)
    count = len(prompts)
    assert tripled[:count] == alone
    assert tripled[count : 2 * count] == alone[::-1]
    assert tripled[2 * count :] == alone


def test_a_model_with_windows_is_refused_and_not_misread(model, tokenizer, prompts):
    """Its tokens would be those of another model: transformers heeds the windows."""
    torch.manual_seed(0)
    window = type(model.config)(
        **{
            **model.config.to_dict(),
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 1,
            "layer_types": None,
        }
    )
    narrow = type(model)(window).eval()
    narrow.load_state_dict(model.state_dict())
    narrow.generation_config = model.generation_config
    assert reference(narrow, tokenizer, prompts) != reference(model, tokenizer, prompts)
    with pytest.raises(UserError, match=r"does not see the whole text.*sliding_attention"):
        generate(narrow, tokenizer, prompts, max_new_tokens=NEW)
