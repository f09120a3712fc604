"""Continuous batching: on a CPU, where both run, it writes what our own loop writes."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from toy import save_toy_model

from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry import line_scores
from finetune_geometry.geometry.line_scores import make_tasks, score
from finetune_geometry.models import continuous as module
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.compat import attention_of
from finetune_geometry.models.continuous import complete, continuous
from finetune_geometry.models.device import enough_memory
from finetune_geometry.models.generation import generate
from finetune_geometry.models.loading import load_model
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile

pytestmark = pytest.mark.filterwarnings("ignore")  # of a machine that is not made for it


@pytest.fixture(scope="module")
def student():
    """The shipped one, its tokenizer, and prompts of different lengths, some of them equal."""
    profile = load_profile("tiny")
    model, tokenizer = load_model(profile)
    problems = load_problems(profile, "test")[:7]
    prompts = [prompt_ids(tokenizer, p.question, profile.prompt) for p in problems]
    return model, tokenizer, [*prompts, prompts[1]], problems


def test_greedy_tokens_are_those_of_our_own_loop(student):
    model, tokenizer, prompts, _ = student
    before = attention_of(model)
    ours = generate(model, tokenizer, prompts, max_new_tokens=60)
    theirs = continuous(model, tokenizer, prompts, max_new_tokens=60, pages=12, batch_size=3)
    assert theirs == ours
    ended = [ids[-1] == tokenizer.eos_token_id for ids in ours]
    assert any(ended)
    assert not all(ended)  # with its EOS, and cut off
    assert attention_of(model) == before


def test_a_mixture_acts_in_it(student):
    model, tokenizer, prompts, _ = student
    rng = np.random.default_rng(0)
    name = "model.layers.3.self_attn.o_proj"
    out, into = model.get_submodule(name).weight.shape
    delta = LowRankDelta(rng.normal(size=(out, 2)), rng.normal(size=(2, into)), 0.1)
    base = generate(model, tokenizer, prompts, max_new_tokens=24)
    with Mixture(model, {"sft": {name: delta}}) as mixture:
        mixture.set({"sft": 0.7})
        ours = generate(model, tokenizer, prompts, max_new_tokens=24)
        theirs = continuous(model, tokenizer, prompts, max_new_tokens=24, pages=12)
    assert theirs == ours != base


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = save_toy_model(tmp_path_factory.mktemp("toy") / "model")
    model, tokenizer = load_model(load_profile("tiny", {"model.base": str(folder)}))
    model.generation_config.top_k = 1  # a model's own settings must not matter
    model.generation_config.temperature = 0.1
    return model, tokenizer


def test_tokens_are_drawn_from_the_whole_softmax(toy):
    model, tokenizer = toy
    prompt, draws, temperature = [5, 6, 7], 600, 2.0
    found = continuous(
        model, tokenizer, [prompt] * draws, max_new_tokens=1, temperature=temperature, seed=1,
        pages=40,
    )  # fmt: skip
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    share = (logits.double() / temperature).softmax(-1)
    counts = Counter(ids[0] for ids in found)
    for token in share.topk(5).indices.tolist():
        p = float(share[token])
        assert abs(counts[token] / draws - p) < 4.5 * math.sqrt(p * (1 - p) / draws)
    outside = 1 - float(share.topk(60)[0].sum())  # where a default top-k of 50 draws nothing
    assert outside > 0.05
    drawn = sum(n for token, n in counts.items() if token not in share.topk(60).indices.tolist())
    assert abs(drawn / draws - outside) < 4.5 * math.sqrt(outside * (1 - outside) / draws)


def test_the_seed_decides_the_draws(toy):
    model, tokenizer = toy
    one, again, other = (
        continuous(model, tokenizer, [[5, 6, 7]] * 4, max_new_tokens=8, temperature=1.0, seed=seed,
                   pages=8)
        for seed in (3, 3, 4)
    )  # fmt: skip
    assert one == again != other
    assert len({tuple(ids) for ids in one}) > 1


def test_a_prompt_that_does_not_fit_is_refused(toy):
    model, tokenizer = toy
    with pytest.raises(UserError, match="exceed the context"):
        continuous(model, tokenizer, [[5] * 600], max_new_tokens=600)


class Result:
    def __init__(self, error=None):
        self.error, self.generated_tokens = error, [1]


class Gpu:
    """A model on a GPU: what it is asked is kept."""

    device = torch.device("cuda")

    def __init__(self, model, results):
        self.config, self.generation_config = model.config, model.generation_config
        self.results, self.asked = results, []

    def generate_batch(self, prompts, generation_config, continuous_batching_config):
        self.asked.append((prompts, generation_config, continuous_batching_config))
        return dict(enumerate(self.results))


def test_a_gpu_writes_by_continuous_batching_and_a_cpu_by_our_loop(toy, monkeypatch):
    model, tokenizer = toy
    gpu = Gpu(model, [Result(), Result()])
    given = {"max_new_tokens": 9, "temperature": 0.5, "seed": 7, "batch_size": 5}
    assert complete(gpu, tokenizer, [[5], [6, 7]], **given) == [[1], [1]]
    prompts, settings, machinery = gpu.asked[0]
    assert prompts == [[5], [6, 7]]
    assert (settings.max_new_tokens, settings.do_sample, settings.temperature) == (9, True, 0.5)
    assert (settings.top_k, settings.top_p) == (0, 1.0)
    assert (machinery.seed, machinery.max_requests_per_batch, machinery.num_blocks) == (7, 5, None)
    assert not machinery.auto_switch_to_flash
    monkeypatch.setattr(module, "generate", lambda *args, **kwargs: (args, kwargs))
    assert complete(model, tokenizer, [[5]], **given) == ((model, tokenizer, [[5]]), given)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ([Result(), Result("CUDA out of memory. Tried to allocate 2.00 GiB.")], "2.00 GiB more"),
        ([Result(), Result("out of memory")], r"^out of memory \("),
    ],
)
def test_a_cache_that_does_not_fit_names_the_setting(toy, written, words):
    model, tokenizer = toy
    with pytest.raises(UserError, match=words), enough_memory("rollouts.batch_size", 5):
        complete(Gpu(model, written), tokenizer, [[5], [6]], max_new_tokens=3)


def test_a_prompt_without_a_completion_is_an_error(toy):
    model, tokenizer = toy
    with pytest.raises(RuntimeError, match=r"^1 prompts got no completion"):
        complete(Gpu(model, [Result()]), tokenizer, [[5], [6]], max_new_tokens=3)


def test_lines_answer_point_by_point_on_a_gpu(student, monkeypatch):
    model, tokenizer, _, problems = student
    tasks = make_tasks(tokenizer, empty_heldout(), problems, 7, 100, load_profile("tiny").prompt, 4)
    name = "model.layers.3.self_attn.o_proj"
    out, into = model.get_submodule(name).weight.shape
    delta = LowRankDelta(np.ones((out, 1)), np.ones((1, into)), 0.05)
    points = [(), (("sft", 1.0),)]
    with Mixture(model, {"sft": {name: delta}}) as mixture:
        together = score(mixture, tokenizer, tasks, points, "accuracy")

        monkeypatch.setattr(line_scores, "by_pages", lambda model: True)
        places, stand = [], mixture.set
        monkeypatch.setattr(
            mixture, "set", lambda weights: places.append(weights) or stand(weights)
        )
        apart = score(mixture, tokenizer, tasks, points, "accuracy")
    assert places == [{}, {"sft": 1.0}]
    assert [sums.tolist() for sums, _ in apart] == [sums.tolist() for sums, _ in together]
    assert together[0][0].tolist() != together[1][0].tolist()


def empty_heldout():
    return pd.DataFrame({"prompt": [], "prompt_ids": [], "completion_ids": []})
