"""Training: TRL's own trainers as oracles, determinism, going on after a kill, and clear errors."""

import errno
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from toy import adapter, same, toy_pool, toy_run
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from finetune_geometry.methods import build, losses, saving, training
from finetune_geometry.methods.rows import row_order, unpaired_rows
from finetune_geometry.methods.training import summarise, train
from finetune_geometry.models.loading import load_model
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs import keys
from finetune_geometry.runs.keys import fast_bf16
from finetune_geometry.runs.snapshots import snapshot_dir
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS


@pytest.fixture(autouse=True)
def results_of_this_test(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))


@pytest.fixture(scope="module", autouse=True)
def libraries_out_of_the_way():
    """Every training collects garbage once: half its time, were the libraries gone through too."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def trained(toy_model, tmp_path_factory):
    """Cards and adapters of all six methods, trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path_factory.mktemp("trained")))
        run = toy_run(toy_model)
        cards = {method: train(run, method) for method in METHODS}
    return cards, {method: adapter(run, method) for method in METHODS}, run


def lora(run) -> LoraConfig:
    settings = run.profile.lora
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        target_modules=list(settings.target_modules),
        task_type="CAUSAL_LM",
    )


def arguments(run, folder: Path, kind=SFTConfig, **changes):
    """What a person would write for TRL to get the training of the run's profile."""
    settings = run.profile.training
    values = {
        "output_dir": str(folder),
        "max_steps": settings.schedule_steps,
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.batch_size // settings.micro_batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "use_cpu": True,
        "bf16": settings.bf16 and fast_bf16(),
        "activation_checkpointing": False,
        "seed": run.profile.lora.seed,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return kind(**values | changes)


class StopAfter(TrainerCallback):
    """Ends a training before its schedule does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps


@pytest.mark.parametrize(("method", "loss_type"), [("sft", "nll"), ("dft", "dft")])
def test_sft_and_dft_are_those_of_trl_bit_for_bit(trained, tmp_path, method, loss_type):
    cards, adapters, run = trained
    rows = unpaired_rows(load_rollouts(run), method, run.profile.methods[method])
    order = row_order(rows["input_ids"].map(len).to_numpy(), run.profile.training)
    data = Dataset.from_pandas(rows.drop(columns="weight"), preserve_index=False).select(order)
    model, tokenizer = load_model(run.profile)
    trainer = SFTTrainer(
        model=model.train(),
        args=arguments(
            run, tmp_path, loss_type=loss_type, max_length=None, pad_to_multiple_of=32,
            train_sampling_strategy="sequential",
        ),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora(run),
        callbacks=[StopAfter(run.profile.training.steps)],
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 4
    assert same(get_peft_model_state_dict(trainer.model), adapters[method])
    losses = [[e["step"], e["loss"]] for e in trainer.state.log_history if "loss" in e]
    assert losses == cards[method]["losses"]
    assert max(v.abs().max() for k, v in adapters[method].items() if "lora_B" in k) > 1e-3


class Biased(GRPOTrainer):
    """TRL's GRPO with the paper's bias on every advantage."""

    bias = 0.1

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        return {**batch, "advantages": batch["advantages"] + self.bias}


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_offline_grpo_is_trl_s_grpo_that_replays_the_pool(toy_model, tmp_path, monkeypatch):
    """Old policy = policy, no clip reached, no KL, no division by the standard deviation."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    run = toy_run(
        toy_model, training__micro_batch_size=4, training__bf16=False, training__steps=6
    )  # fp32: the two pad differently, and bf16 would round what is equal
    pool = load_rollouts(run)
    # GRPO reads one whole group a step; so does ours here.
    monkeypatch.setattr(training, "row_order", lambda lengths, settings: list(range(24)))
    card = train(run, "offline_grpo")

    groups = itertools.count()

    def replay(prompts, trainer):
        group = pool[pool["group"] == next(groups)]
        assert list(prompts) == group["question"].tolist()
        return {
            "prompt_ids": [list(ids) for ids in group["prompt_ids"]],
            "completion_ids": [list(ids) for ids in group["completion_ids"]],
            "logprobs": None,
            "reward": group["reward"].tolist(),
        }

    model, tokenizer = load_model(run.profile)
    trainer = Biased(
        model=model.train(),
        reward_funcs=lambda completions, reward, **kwargs: reward,
        args=arguments(
            run, tmp_path, GRPOConfig, num_generations=4, beta=0.0, scale_rewards="none",
            loss_type="dapo", num_iterations=1, max_completion_length=256, shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": pool["question"].drop_duplicates().tolist()}),
        processing_class=tokenizer,
        peft_config=lora(run),
        rollout_func=replay,
    )  # fmt: skip
    trainer.train()
    theirs, ours = get_peft_model_state_dict(trainer.model), adapter(run, "offline_grpo")
    norms = [e["grad_norm"] for e in trainer.state.log_history if "grad_norm" in e]
    assert norms == pytest.approx([norm for _, norm in card["gradient_norms"]], rel=1e-4)
    assert theirs.keys() == ours.keys()
    change = max(ours[key].abs().max() for key in ours if "lora_B" in key)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-4 * change.item(), rtol=0)


def test_dpo_s_training_loss_is_the_closed_form(toy_model, monkeypatch):
    """At every micro-batch: log-probabilities from plain logits, the reference without adapter."""
    run = toy_run(toy_model, training__bf16=False, methods__dpo__learning_rate=1e-2)
    seen = []

    class Checked(build.PairTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            batch = {key: inputs[key].clone() for key in inputs}
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            ids, mask = batch["input_ids"], batch["completion_mask"][:, 1:]

            def log_prob() -> torch.Tensor:
                logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits
                tokens = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
                return (tokens * mask).sum(-1)

            with torch.no_grad():
                chosen, rejected = log_prob().chunk(2)
                with model.disable_adapter():
                    reference = log_prob().chunk(2)
            closed = losses.dpo(chosen, rejected, *reference, run.profile.methods["dpo"].beta)
            seen.append((float(loss.detach()), float(closed.mean())))
            return loss

    monkeypatch.setattr(build, "PairTrainer", Checked)
    train(run, "dpo")
    assert len(seen) == 4 * 2
    for loss, closed in seen:
        assert loss == pytest.approx(closed, rel=1e-4)
    assert abs(seen[0][1] - 0.6931) < 1e-3
    assert abs(seen[-1][1] - 0.6931) > 0.01  # it moved, so the check was of more than log 2


def test_krafton_s_training_loss_is_the_closed_form_with_the_base_as_reference(
    toy_model, monkeypatch
):
    """At every micro-batch: log-probabilities from plain logits, the base's without the adapter."""
    run = toy_run(
        toy_model,
        training__bf16=False,
        methods__offline_grpo__variant="krafton",
        methods__offline_grpo__kl=1.0,
    )
    seen = []

    class Checked(build.ObjectiveTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            ids, labels, weight = (inputs[key].clone() for key in ("input_ids", "labels", "weight"))
            attention = inputs["attention_mask"].clone()
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            mask = labels[:, 1:] != -100

            def log_probs() -> torch.Tensor:
                logits = model(input_ids=ids, attention_mask=attention).logits
                return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]

            with torch.no_grad():
                policy = log_probs()
                with model.disable_adapter():
                    base = log_probs()
            apart = float((policy - base)[mask].abs().max())
            closed = losses.offline_grpo_krafton(policy, base, mask, weight, 1.0)
            tokens = kwargs["num_items_in_batch"]
            seen.append((float(loss.detach()), float(closed.sum() / tokens), apart))
            return loss

    monkeypatch.setattr(build, "ObjectiveTrainer", Checked)
    train(run, "offline_grpo")
    assert len(seen) == 4 * 2
    for loss, closed, _ in seen:
        assert loss == pytest.approx(closed, rel=1e-4, abs=1e-6)
    assert seen[0][2] == 0  # the adapter is still zero
    assert seen[-1][2] > 0.1  # it is not any more: policy and base can be told apart


def test_precomputing_the_reference_leaves_dpo_s_weights_as_they_are(
    trained, toy_model, monkeypatch
):
    _, adapters, _ = trained
    config = build.DPOConfig
    monkeypatch.setattr(
        build, "DPOConfig", lambda **kw: config(**kw | {"precompute_ref_log_probs": False})
    )
    run = toy_run(toy_model)
    train(run, "dpo")
    assert same(adapter(run, "dpo"), adapters["dpo"])


def test_all_methods_start_from_the_same_lora_a_and_end_apart(trained):
    cards, adapters, _ = trained
    assert len({card["lora_a_sha256"] for card in cards.values()}) == 1
    assert not any(same(adapters[a], adapters[b]) for a, b in itertools.combinations(METHODS, 2))
    assert len({cards[method]["rows_sha256"] for method in ("sft", "rft", "dft", "rift")}) == 1


def test_another_lora_seed_is_another_start(toy_model, trained):
    cards, _, _ = trained
    card = train(toy_run(toy_model, lora__seed=7, training__steps=1), "sft")
    assert card["lora_a_sha256"] != cards["sft"]["lora_a_sha256"]


def test_the_dropout_of_the_settings_is_applied(trained, toy_model):
    cards, adapters, _ = trained
    run = toy_run(toy_model, lora__dropout=0.5)
    card = train(run, "sft")
    held = json.loads((run.adapter_dir("sft") / "adapter_config.json").read_text())
    assert held["lora_dropout"] == 0.5
    assert card["lora_a_sha256"] == cards["sft"]["lora_a_sha256"]
    assert card["losses"][0] == cards["sft"]["losses"][0]  # B is 0: nothing to drop yet
    assert card["gradient_norms"][0] != cards["sft"]["gradient_norms"][0]
    assert not same(adapter(run, "sft"), adapters["sft"])


@pytest.mark.parametrize(
    ("method", "pool", "other", "factor"),
    [
        ("rft", [(1, 1)] * 8, {}, 1),
        ("rift", [(1, 0)] * 8, {"methods__rift__reward_lambda": 0.0}, 1),
        ("rift", [(1, 1)] * 8, {"methods__rift__variant": "published"}, 1),
        ("offline_grpo", [(1, 1)] * 8, {}, 0.1),
        ("offline_grpo", [(0, 0)] * 8, {}, 0.1),
    ],
    ids=["RFT all right", "RIFT lambda 0", "RIFT no negatives", "GRPO all right", "GRPO all wrong"],
)
def test_limits_in_which_an_objective_is_sft(toy_model, method, pool, other, factor):
    """Same adapters bit for bit, or, for a scaled loss, the gradient scaled by the same factor."""
    pool = toy_pool(pool)
    sft = toy_run(toy_model, "sft", pool)
    run = toy_run(toy_model, "other", pool, **other)
    one, two = train(sft, "sft"), train(run, method)
    if factor == 1:
        assert same(adapter(sft, "sft"), adapter(run, method))
        assert one["losses"] == two["losses"]
    else:
        assert two["losses"][0][1] == pytest.approx(factor * one["losses"][0][1], rel=1e-3)
        assert two["gradient_norms"][0][1] == pytest.approx(
            factor * one["gradient_norms"][0][1], rel=0.02
        )


def test_micro_batches_do_not_change_the_gradient(toy_model):
    """The sum over the whole optimiser step is divided once, whatever its parts are."""
    norms = [
        train(toy_run(toy_model, f"m{m}", training__micro_batch_size=m, training__bf16=False,
                      training__steps=1), "rft")["gradient_norms"][0][1]
        for m in (1, 2, 4)
    ]  # fmt: skip
    assert norms[0] == pytest.approx(norms[2], rel=1e-4)
    assert norms[1] == pytest.approx(norms[2], rel=1e-4)


@pytest.mark.parametrize(
    ("method", "variant"), [("rft", "distinct"), ("rift", "published"), ("offline_grpo", "krafton")]
)
def test_the_published_variants_train_to_another_adapter(trained, toy_model, method, variant):
    _, adapters, _ = trained
    run = toy_run(toy_model, **{f"methods__{method}__variant": variant})
    card = train(run, method, f"{method}-{variant}")
    assert card["variant"] == variant
    assert run.adapter_names() == [f"{method}-{variant}"]
    assert not same(adapter(run, f"{method}-{variant}"), adapters[method])


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_same_seed_trains_the_same_adapter(trained, toy_model, method):
    cards, adapters, _ = trained
    run = toy_run(toy_model)
    card = train(run, method)
    assert same(adapter(run, method), adapters[method])
    assert card["losses"] == cards[method]["losses"]
    assert card["rows_sha256"] == cards[method]["rows_sha256"]


def test_another_order_of_the_rows_trains_another_adapter(trained, toy_model):
    _, adapters, _ = trained
    run = toy_run(toy_model, training__seed=7)
    card = train(run, "sft")
    assert not same(adapter(run, "sft"), adapters["sft"])
    assert card["lora_a_sha256"] == trained[0]["sft"]["lora_a_sha256"]


@pytest.mark.parametrize("method", ["offline_grpo", "dpo"])
def test_an_interrupted_training_goes_on_to_the_same_adapter(
    trained, toy_model, monkeypatch, method
):
    cards, adapters, _ = trained
    run = toy_run(toy_model)
    watch = training.Watch

    class Dies(watch):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt
            super().on_step_end(args, state, control, **kwargs)

    monkeypatch.setattr(training, "Watch", Dies)
    with pytest.raises(KeyboardInterrupt):
        train(run, method)
    assert run.adapter_names() == []
    assert (run.dir / f"checkpoints/{method}/checkpoint-2").is_dir()
    monkeypatch.setattr(training, "Watch", watch)
    card = train(run, method)
    assert card["resumed"]
    assert same(adapter(run, method), adapters[method])
    assert card["losses"] == cards[method]["losses"]
    assert card["lora_a_sha256"] == cards[method]["lora_a_sha256"]
    assert not (run.dir / f"checkpoints/{method}").exists()


# It imports once what takes seconds to import; each training is a child that is forked then.
KILLED = """
import json, os, signal, sys, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import transformers.trainer
from toy import toy_run
from finetune_geometry.methods import build, training

def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(training.Watch):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.killed_at:
            kill()
        super().on_step_end(args, state, control, **kwargs)

def second(function):
    calls = []
    def counted(*args, **kwargs):
        calls.append(1)
        return kill() if len(calls) == 2 else function(*args, **kwargs)
    return counted

def half_a_state(self, path):
    Path(path).write_text('{"best_global_step": null,')
    kill()

def train(model, method, when):
    Trainer, State = build.PairTrainer, transformers.trainer.TrainerState
    if when.startswith("step "):
        Killed.killed_at = int(when.removeprefix("step "))
        training.Watch = Killed
    elif when == "weights":
        Trainer.save_model = build.ObjectiveTrainer.save_model = second(Trainer.save_model)
    elif when == "optimizer":
        torch_save = transformers.trainer.torch.save
        transformers.trainer.torch.save = second(torch_save)
    elif when == "state":
        whole = State.save_to_json
        State.save_to_json = lambda self, path: (
            half_a_state(self, path) if "checkpoint-4" in path else whole(self, path)
        )
    elif when == "rotation":
        transformers.trainer.rotate_checkpoints = second(transformers.trainer.rotate_checkpoints)
    elif when == "reference":
        Trainer.compute_ref_log_probs = second(Trainer.compute_ref_log_probs)
    training.train(toy_run(Path(model), training__steps=5), method)

replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    environment, *asked = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            os.environ |= environment
            train(*asked)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=replies, flush=True)
"""


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[..., int]]:
    """Train in a process of its own, that is killed on its way; the process's exit code."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1])]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(*words: str) -> int:
        server.stdin.write(json.dumps([dict(os.environ), *words]) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    yield ask
    server.communicate()


@pytest.mark.parametrize(
    ("method", "when", "going_on_from"),
    [
        ("rift", "step 1", None),
        ("rift", "step 3", 2),
        ("dpo", "step 5", 4),
        ("dpo", "reference", None),  # while it is worked out beforehand
        ("sft", "weights", 2),  # while the second checkpoint is written: its first file,
        ("sft", "optimizer", None),  # the second file of the first one,
        ("sft", "state", 2),  # the last file,
        ("sft", "rotation", 4),  # before the first one is deleted
    ],
)
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(
    toy_model, killed, capsys, method, when, going_on_from
):
    whole = toy_run(toy_model, "whole", training__steps=5)
    train(whole, method)
    assert killed(str(toy_model), method, when) == -signal.SIGKILL
    run = toy_run(toy_model, training__steps=5)
    capsys.readouterr()
    assert train(run, method)["resumed"] == (going_on_from is not None)
    said = capsys.readouterr().out
    assert f"going on from checkpoint-{going_on_from}" in said or going_on_from is None
    assert same(adapter(run, method), adapter(whole, method))
    steps = run.profile.training.snapshot_steps
    assert steps == [1, 2]
    for step in steps:
        assert same(*(snapshot(one, method, step) for one in (run, whole)))
        assert not same(snapshot(run, method, step), adapter(run, method))


def snapshot(run, name, step):
    return load_file(snapshot_dir(run, name, step) / "adapter_model.safetensors")


def test_adapters_on_the_way_are_those_of_a_training_that_stops_there(toy_model):
    """With the same schedule; and a training that begins anew leaves none of the one before."""
    run = toy_run(toy_model, training__schedule_steps=6, training__snapshots=[0.25, 0.75, 1.0])
    card = train(run, "dft", "first")
    kept = {step: snapshot(run, "first", step) for step in (1, 3)}
    short = toy_run(toy_model, "short", training__steps=3, training__schedule_steps=6)
    train(short, "dft")
    assert same(kept[3], adapter(short, "dft"))
    found = json.loads((snapshot_dir(run, "first", 1) / "card.json").read_text())
    assert card | found == card | {"step": 1}  # of the same origin
    fewer = toy_run(toy_model, training__schedule_steps=6, training__snapshots=[0.5])
    train(fewer, "dft", "first")
    assert [path.name for path in snapshot_dir(run, "first", 0).parent.iterdir()] == ["2"]


@pytest.mark.parametrize(
    "changes",
    [{"training__learning_rate": 1e-3}, {"lora__alpha": 32}, {"methods__rift__reward_lambda": 0.1}],
)
def test_checkpoints_of_other_settings_are_dropped(toy_model, monkeypatch, changes):
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_adapter", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(toy_run(toy_model), "rift")
    run = toy_run(toy_model, **changes)
    assert (run.dir / "checkpoints/rift/checkpoint-2").is_dir()
    assert not train(run, "rift")["resumed"]


def interrupt(*args):
    raise KeyboardInterrupt


def test_checkpoints_of_other_rows_are_dropped(toy_model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_adapter", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(toy_run(toy_model), "sft")
    pool = toy_pool()  # other tokens, the same rewards
    pool["text"] = "7" + pool["text"]
    assert not train(toy_run(toy_model, pool=pool), "sft")["resumed"]


def test_an_adapter_is_kept_while_all_that_made_it_is_the_same(toy_model, monkeypatch):
    run = toy_run(toy_model)
    before = train(run, "sft", "sft-lr")
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", interrupt)
        assert training.trained(run, "sft", "sft-lr") == before
        for name in ("sft", "sft-lr"):  # not there; made with another learning rate
            changed = toy_run(toy_model, training__learning_rate=1e-3)
            with pytest.raises(KeyboardInterrupt):
                training.trained(changed, "sft", name)
        pool = toy_pool()
        pool["text"] = "7" + pool["text"]
        with pytest.raises(KeyboardInterrupt):
            training.trained(toy_run(toy_model, pool=pool), "sft", "sft-lr")
        toy_run(toy_model)  # the first pool again
        patch.setattr(keys, "content_sha256", lambda *source: "other weights")
        with pytest.raises(KeyboardInterrupt):
            training.trained(run, "sft", "sft-lr")
    assert train(changed, "sft", "sft-lr")["learning_rate"] == 1e-3


def test_the_seconds_before_a_resumption_count(toy_model, monkeypatch):
    run = toy_run(toy_model)
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_adapter", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(run, "rift")
    (state,) = run.dir.glob("checkpoints/rift/checkpoint-*/trainer_state.json")
    before = json.loads(state.read_text())["log_history"][-1]["clock"]
    assert before > 0
    held = json.loads(state.read_text())
    held["log_history"][-1]["clock"] = 1000.0 + before
    state.write_text(json.dumps(held))
    assert train(run, "rift")["seconds"] > 1000.0 + before


def test_a_torn_checkpoint_is_passed_over(toy_model, trained, monkeypatch):
    """Of a kill while a checkpoint was written, the one before it is used."""
    _, adapters, _ = trained
    run = toy_run(toy_model)
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_adapter", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(run, "sft")
    folder = run.dir / "checkpoints/sft/checkpoint-9"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    (folder / "trainer_state.json").write_text('{"best_global_step": null,')
    assert train(run, "sft")["resumed"]
    assert same(adapter(run, "sft"), adapters["sft"])


def test_the_card_says_what_was_done(trained):
    cards, _, run = trained
    for method, card in cards.items():
        assert run_card(run, method) == json.loads(json.dumps(card))
        assert card["objective"] == method
        assert card["steps"] == 4  # not the six of the schedule
        assert [step for step, _ in card["losses"]] == [1, 2, 3, 4]
        assert card["final_loss"] == card["losses"][-1][1]
        assert card["learning_rate"] == run.profile.training_of(method).learning_rate
        assert card["seconds"] > 0
        assert not card["resumed"]
        assert summarise(card).loc["steps", "value"] == 4
    assert cards["dpo"]["rows"] == 3
    assert cards["sft"]["rows"] == 24


def run_card(run, method: str) -> dict:
    return json.loads((run.adapter_dir(method) / "card.json").read_text())


def test_an_adapter_folder_is_what_peft_reads(trained):
    _, adapters, run = trained
    for method, tensors in adapters.items():
        files = {path.name for path in run.adapter_dir(method).iterdir()}
        assert files == {"adapter_config.json", "adapter_model.safetensors", "card.json"}
        assert {t.dtype for t in tensors.values()} == {torch.float32}
        assert len(tensors) == 2 * 4 * 2  # A and B of q, k, v, o in two layers
        assert run.adapter_names() == list(METHODS)


def test_a_short_training_is_logged_too(toy_model):
    card = train(toy_run(toy_model, training__steps=3, training__logging_steps=50), "sft")
    assert [step for step, _ in card["losses"]] == [3]


# What a person can get wrong.


def test_an_unknown_method_is_refused(toy_model):
    with pytest.raises(UserError, match="unknown method 'ppo': train: use one of sft, rft"):
        train(toy_run(toy_model), "ppo")


@pytest.mark.parametrize("method", list(METHODS))
def test_an_unknown_variant_is_refused(toy_model, method):
    run = toy_run(toy_model, **{f"methods__{method}__variant": "best"})
    with pytest.raises(UserError, match=rf"variant 'best': methods\.{method}\.variant: .*paper"):
        train(run, method)


@pytest.mark.parametrize("method", ["offline_grpo", "dpo"])
def test_one_rollout_a_prompt_is_refused(toy_model, method):
    run = toy_run(toy_model, pool=toy_pool([(1,), (0,), (1,)]))
    with pytest.raises(UserError, match=rf"K = 1.*{method}: set rollouts\.k"):
        train(run, method)


def test_a_pool_without_a_mixed_group_is_refused_by_dpo(toy_model):
    run = toy_run(toy_model, pool=toy_pool([(1, 1), (0, 0)]))
    with pytest.raises(UserError, match="none of the 2 groups is mixed"):
        train(run, "dpo")


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_rollout_longer_than_the_context_is_refused(toy_model, method):
    run = toy_run(toy_model, model__max_length=60)
    with pytest.raises(UserError, match=rf"longest row has \d+ tokens, the context 60: {method}: "):
        train(run, method)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_loss_that_is_not_finite_stops_the_training(toy_model, method):
    run = toy_run(
        toy_model, training__learning_rate=1e30, methods__dpo__learning_rate=1e30, training__steps=6
    )
    with pytest.raises(UserError, match=f"is nan at step [1-4]: {method}: lower its learning_rate"):
        train(run, method)
    assert run.adapter_names() == []


@pytest.mark.parametrize("steps", [4, 3])
def test_a_nan_between_two_log_lines_is_seen_at_the_end(toy_model, monkeypatch, steps):
    monkeypatch.setattr(losses, "sft", lambda log_probs: log_probs * float("nan"))
    run = toy_run(toy_model, training__logging_steps=50, training__steps=steps)
    with pytest.raises(UserError, match=f"is nan at step {steps}"):
        train(run, "sft")
    assert run.adapter_names() == []


def full(*args, **kwargs):
    """What safetensors raises on a full disk."""
    raise SafetensorError("Error while serializing: I/O error: No space left on device")


@pytest.mark.parametrize("fills", ["adapters", "snapshots"])
def test_a_full_disk_loses_nothing(toy_model, monkeypatch, fills):
    """Neither the last checkpoint nor an adapter that was there before."""
    run = toy_run(toy_model)
    train(run, "sft")
    before = adapter(run, "sft")
    changed = toy_run(toy_model, training__learning_rate=1e-3)
    save = saving.save_file

    def full_there(weights, path, **more):
        (full if fills in path.parts else save)(weights, path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_file", full_there)
        with pytest.raises(UserError, match=rf"no space left on the disk: .*{fills}/sft.*: free"):
            train(changed, "sft")
    assert same(adapter(run, "sft"), before)
    assert [p.name for p in (run.dir / "adapters").iterdir()] == ["sft"]
    # A training that came to its end is not repeated.
    assert train(changed, "sft")["resumed"] is (fills == "adapters")
    assert not same(adapter(run, "sft"), before)


def test_a_disk_that_fills_up_at_a_checkpoint_is_explained(toy_model, monkeypatch):
    run = toy_run(toy_model)

    def no_space(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    for error in (full, no_space):
        monkeypatch.setattr(build.ObjectiveTrainer, "_save_checkpoint", error)
        with pytest.raises(UserError, match=r"no space left on the disk: .*checkpoints/sft"):
            train(run, "sft")
