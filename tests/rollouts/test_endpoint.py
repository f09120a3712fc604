"""The source "endpoint" against a server that fails in every way: nothing lost, asked twice, or
paid beyond the budget."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx2
import openai
import pytest
from fake_endpoint import USAGE, FakeEndpoint, identity, question_of

from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts import endpoint_replies, endpoint_requests
from finetune_geometry.rollouts import pool as rollouts
from finetune_geometry.rollouts.card_table import card_table
from finetune_geometry.rollouts.endpoint import ANSWERS, EndpointSource, seed
from finetune_geometry.rollouts.endpoint_journal import Journal
from finetune_geometry.rollouts.pool import load_rollouts, sample_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile

K, PROBLEMS = 3, 14
SETTINGS = {
    "problems.rollouts": PROBLEMS,
    "rollouts.prompts": 10,
    "rollouts.heldout_prompts": 4,
    "rollouts.k": K,
    "rollouts.source": "endpoint",
    "rollouts.endpoint.model": "teacher",
    "rollouts.endpoint.concurrency": 4,
    "rollouts.endpoint.timeout": 20.0,
}
SOLUTIONS = {p.question: p.solution for p in load_problems(load_profile("smoke"), "rollouts")}
PRICES = {"rollouts.endpoint.price_input": 1e4, "rollouts.endpoint.price_output": 2e4}
ANSWER_COSTS = (1e4 * USAGE["prompt_tokens"] + 2e4 * USAGE["completion_tokens"]) / 1e6


def solution(body):
    """The generator's solution, a wrong one where the request's seed says so."""
    text = SOLUTIONS[question_of(body)]
    return text.replace("boxed{", "boxed{9") if body["seed"] % 3 == 0 else text


@pytest.fixture
def server():
    with FakeEndpoint(solution) as fake:
        yield fake


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Attempts follow one another without delay, and shards are small."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(rollouts, "SHARD_PROMPTS", 4)
    monkeypatch.setattr(endpoint_requests, "FIRST_WAIT", 0.0)


def opened(server, **changes):
    own = {name.replace("__", "."): value for name, value in changes.items()}
    return Run.open("smoke", "pool", SETTINGS | {"rollouts.endpoint.base_url": server.url} | own)


def endpoint(**changes):
    return {f"rollouts__endpoint__{name}": value for name, value in changes.items()}


def answers(run):
    journal = Journal(run.dir / ANSWERS)
    journal.refresh()
    return {key: journal.read(key) for key in journal.asked if journal.has(key)}


def forget_the_pool(run):
    """What was made of the answers, so that they are needed again."""
    for path in [*(run.dir / "rollouts").glob("*.*"), *run.dir.glob("rollouts/shards/*")]:
        path.unlink()


def test_a_server_writes_the_pool(server):
    run = opened(server, prompt__instruction="Box it.")
    server.answer = lambda body: SOLUTIONS[question_of(body).removesuffix("\n\nBox it.")]
    card = sample_rollouts(run)
    rows = load_rollouts(run)
    assert (card["rows"], card["heldout_rows"], card["mean_reward"]) == (30, 12, 1.0)
    assert rows["text"].tolist() == [SOLUTIONS[q] for q in rows["question"]]
    assert set(rows["source"]) == {"teacher-2026-07"}
    assert set(rows["finish"]) == {"stop"}
    assert len(server.requests) == K * PROBLEMS
    assert set(server.answered.values()) == {1}
    body = server.requests[0]
    question = run.read_table(rollouts.POOL)["question"][0]
    assert body.pop("seed") == seed(run.profile.rollouts.seed, question, 0)
    assert body == {
        "model": "teacher",
        "messages": [{"role": "user", "content": f"{question}\n\nBox it."}],
        "temperature": run.profile.rollouts.temperature,
        "max_tokens": run.profile.rollouts.max_new_tokens,
    }
    assert len({body["seed"] for body in server.requests if "seed" in body}) == K * PROBLEMS - 1


def test_the_card_says_who_wrote_when_and_for_how_much(server):
    server.faults.extend(["500", "drop", "429"])
    before = endpoint_replies.now()
    run = opened(server, **endpoint(price_input=1.0, price_output=4.0))
    card = sample_rollouts(run)
    assert before <= card["first_answer"] <= card["last_answer"] <= endpoint_replies.now()
    count = K * PROBLEMS
    wanted = {
        "source": "endpoint",
        "teacher": "teacher",
        "server": f"127.0.0.1:{server.port}",
        "models": {"teacher-2026-07": count},
        "fingerprints": {"fp_1": count},
        "finish_reasons": {"stop": count},
        "input_tokens": 20 * count,
        "output_tokens": 30 * count,
        "refused_attempts": 2,
        "lost_attempts": 1,
        "without_usage": 0,
        "empty_answers": 0,
        "with_reasoning": 0,
        "no_room": 0,
        "extra_body": {},
    }
    assert {name: card[name] for name in wanted} == wanted
    plain = (20 * 1.0 + 30 * 4.0) * count / 1e6
    lost = card["cost"] - plain  # may have been charged for, at its most
    most_out = 4.0 * run.profile.rollouts.max_new_tokens
    assert most_out < lost * 1e6 < most_out + 2000
    assert 0 < card["mixed"] < 1
    shown = card_table(card)["value"]
    assert shown["server"] == f"127.0.0.1:{server.port}"
    assert shown["models that answered"] == f"teacher-2026-07 ({count})"
    assert shown["attempts refused, and asked again"] == 2
    assert shown["cost, in the unit of the prices"] == f"{card['cost']:.2f}"
    plain = card_table({key: value for key, value in card.items() if key != "server"})
    assert "server" not in plain.index


def test_servers_that_fail_are_asked_again(server):
    kinds = ["429", "429 0", "500", "503", "408", "409"]
    kinds += ["stall", "trickle", "drop", "cut", "garbage"]
    server.faults.extend(kinds * 2)
    card = sample_rollouts(opened(server, **endpoint(timeout=0.5, retries=30)))
    assert card["rows"] + card["heldout_rows"] == K * PROBLEMS
    assert set(server.answered.values()) == {1}
    assert len(server.answered) == K * PROBLEMS
    assert len(server.requests) == K * PROBLEMS + 2 * len(kinds)
    # What never came back may have been charged for.
    assert (card["refused_attempts"], card["lost_attempts"]) == (12, 10)


def test_a_server_that_says_when_is_not_asked_before(server):
    server.faults.append("429 1")
    sample_rollouts(opened(server))
    assert server.times[1] - server.times[0] >= 1.0


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("7", 7, 7),
        ("", 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("100000", 600, 600),
        (timedelta(seconds=300), 100, 300),
    ],
)
def test_retry_after_is_a_number_or_a_date(given, least, most):
    if isinstance(given, timedelta):
        given = format_datetime(datetime.now(UTC) + given)
    request = httpx2.Request("POST", "http://127.0.0.1")
    response = httpx2.Response(429, headers={"retry-after": given}, request=request)
    error = openai.RateLimitError("no", response=response, body=None)
    again = endpoint_replies.failure(error, load_profile("smoke").rollouts.endpoint, True)
    assert least <= again.wait <= most
    assert not again.lost


def test_it_waits_longer_each_time_and_never_in_step(server, monkeypatch):
    waits = []

    async def wait_for(future, seconds):
        future.close()
        waits.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(
        endpoint_requests, "asyncio", SimpleNamespace(**vars(endpoint_requests.asyncio))
    )
    monkeypatch.setattr(endpoint_requests.asyncio, "wait_for", wait_for)
    server.faults.extend(["500"] * 8)
    source = EndpointSource(opened(server, **endpoint(retries=8)))
    monkeypatch.setattr(endpoint_requests, "FIRST_WAIT", 1.0)
    source.sample(source.problems()[:1], 0)
    assert len(waits) == 8
    for wait, longer in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert longer < wait <= 2 * longer


def test_no_more_requests_at_a_time_than_allowed(server):
    server.delay = 0.05
    sample_rollouts(opened(server))
    assert server.most_at_once == 4


def test_the_budget_is_never_exceeded(server):
    server.delay = 0.01
    run = opened(server, **endpoint(max_cost=40.0, **unprefixed(PRICES)))
    with pytest.raises(UserError, match=r"the budget is used up, .* answers are kept; raise it"):
        sample_rollouts(run)
    kept = len(answers(run))
    assert kept == server.answered.total()
    assert kept * ANSWER_COSTS <= 40
    # No other answer would have been sure to fit: its text at two bytes a token, and its limit.
    assert kept * ANSWER_COSTS + 15 > 40
    assert server.most_at_once > 1
    run = opened(server, **endpoint(max_cost=45.0, **unprefixed(PRICES)))
    with pytest.raises(UserError, match="the budget is used up"):
        sample_rollouts(run)
    assert kept < server.answered.total()
    assert server.answered.total() * ANSWER_COSTS <= 45
    sample_rollouts(opened(server, **endpoint(max_cost=1e3, **unprefixed(PRICES))))
    assert set(server.answered.values()) == {1}
    assert len(server.requests) == K * PROBLEMS


def unprefixed(settings):
    return {name.rpartition(".")[2]: value for name, value in settings.items()}


def test_what_was_lost_counts_against_the_budget(server):
    """A reply that never came may have been charged for in full, before a kill, too."""
    server.faults.extend(["drop"] * 3)
    settings = endpoint(retries=2, max_cost=45.0, **unprefixed(PRICES))
    run = opened(server, **settings)
    with pytest.raises(UserError, match="no answer after 3 attempts"):
        sample_rollouts(run)
    most = 3 * 2e4 * run.profile.rollouts.max_new_tokens / 1e6
    assert most > 15
    source = EndpointSource(run)
    source.journal.refresh()
    assert most < source.asker.spent() < 45
    with pytest.raises(UserError, match="the budget is used up"):
        sample_rollouts(run)
    assert source.asker.spent() + server.answered.total() * ANSWER_COSTS <= 45
    assert 0 < server.answered.total() < K * PROBLEMS


def test_without_usage_the_most_is_counted(server):
    server.answer = lambda body: {"content": solution(body), "usage": None}
    run = opened(server, **endpoint(max_cost=40.0, **unprefixed(PRICES)))
    with pytest.raises(UserError, match="the budget is used up"):
        sample_rollouts(run)
    most = 2e4 * run.profile.rollouts.max_new_tokens / 1e6
    assert 2 <= server.answered.total() <= 40 / most
    card = sample_rollouts(opened(server))
    assert card["without_usage"] == K * PROBLEMS


def test_a_usage_below_zero_is_none(server):
    """It would give back what others have spent."""
    usage = {"prompt_tokens": 20, "completion_tokens": -1000}
    server.answer = lambda body: {"content": solution(body), "usage": usage}
    card = sample_rollouts(opened(server))
    assert card["without_usage"] == K * PROBLEMS
    assert card["output_tokens"] == K * PROBLEMS * load_profile("smoke").rollouts.max_new_tokens


def test_a_server_that_writes_beyond_its_limit_is_believed(server):
    """The bound is no bound there; it follows what the server shows."""
    usage = {"prompt_tokens": 5000, "completion_tokens": 5000}
    server.answer = lambda body: {"content": solution(body), "usage": usage}
    costs = (1e4 + 2e4) * 5000 / 1e6
    run = opened(server, **endpoint(max_cost=2.9 * costs, **unprefixed(PRICES)))
    with pytest.raises(UserError, match="the budget is used up"):
        sample_rollouts(run)
    assert server.answered.total() == 2


def test_a_finished_pool_asks_for_nothing(server):
    run = opened(server)
    first = sample_rollouts(run)
    asked = len(server.requests)
    for prepare in (lambda run: None, forget_the_pool):
        prepare(run)
        again = sample_rollouts(run)
        assert len(server.requests) == asked
        same = set(first) - {"seconds"}
        assert {name: again[name] for name in same} == {name: first[name] for name in same}


def test_only_what_another_setting_changes_is_asked(server):
    sample_rollouts(opened(server))
    count = K * PROBLEMS
    sample_rollouts(opened(server, rollouts__k=K + 1))  # one more of each
    assert len(server.requests) == count + PROBLEMS
    sample_rollouts(opened(server, rollouts__prompts=8))  # fewer
    assert len(server.requests) == count + PROBLEMS
    with FakeEndpoint(solution) as other:  # the same model elsewhere
        forget_the_pool(opened(other))
        sample_rollouts(opened(other))
        assert other.requests == []
    for changes in ({"rollouts__temperature": 0.3}, endpoint(extra_body='{"top_p": 0.9}')):
        server.requests.clear()
        card = sample_rollouts(opened(server, **changes))
        assert len(server.requests) == count
        assert card["input_tokens"] == 20 * count  # of this pool alone
    assert {body["top_p"] for body in server.requests} == {0.9}


def test_a_server_can_be_spared_what_it_does_not_take(server):
    extra = '{"seed": null, "max_tokens": null, "max_completion_tokens": 77}'
    server.answer = lambda body: SOLUTIONS[question_of(body)]
    run = opened(server, **endpoint(extra_body=extra))
    sample_rollouts(run)
    names = {"model", "messages", "temperature", "max_completion_tokens"}
    assert all(set(body) == names for body in server.requests)
    assert EndpointSource(run).requests(load_problems(run.profile, "rollouts")[0])[0].most == 77
    assert set(server.tried.values()) == {K}  # equal bodies, and yet K answers


def test_a_killed_process_loses_no_answer_that_it_had(server, tmp_path):
    reached = threading.Event()
    server.on_answer = lambda count: count >= 17 and reached.set()
    server.delay = 0.02
    run = opened(server)
    script = f"""
from finetune_geometry.runs.records import Run
from finetune_geometry.rollouts.card_table import card_table
from finetune_geometry.rollouts.pool import sample_rollouts
sample_rollouts(Run.open("smoke", "pool", {SETTINGS | {"rollouts.endpoint.base_url": server.url}}))
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    assert reached.wait(120)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    server.on_answer = lambda count: None
    kept = answers(run)
    assert server.answered.total() - 4 <= len(kept) < K * PROBLEMS
    assert len(kept) >= 13
    before = set(server.answered)
    source = EndpointSource(run)
    requests = [r for problem in source.problems() for r in source.requests(problem)]
    has = {identity(r.body) for r in requests if r.key in kept}
    assert has <= before
    server.requests.clear()
    sample_rollouts(run)
    asked = {identity(body) for body in server.requests}
    assert len(server.requests) == len(asked) == K * PROBLEMS - len(kept)
    assert asked.isdisjoint(has)
    assert {key: answer for key, answer in answers(run).items() if key in kept} == kept


def test_a_server_that_dies_half_way_is_waited_for(server):
    died = threading.Event()

    def die(count):
        if count == 12 and not died.is_set():
            died.set()
            threading.Thread(target=restart).start()

    def restart():
        server.stop()
        server.start()

    server.on_answer = die
    card = sample_rollouts(opened(server, **endpoint(retries=500)))
    assert died.is_set()
    assert card["rows"] + card["heldout_rows"] == K * PROBLEMS
    assert sum(n - 1 for n in server.answered.values()) <= 4  # under way when it died


def test_a_server_that_stays_dead_ends_the_run_and_the_next_goes_on(server):
    server.on_answer = lambda count: count == 12 and threading.Thread(target=server.stop).start()
    run = opened(server, **endpoint(retries=2))
    with pytest.raises(UserError, match=r"no answer after 3 attempts.* answers are kept; start"):
        sample_rollouts(run)
    kept = answers(run)
    assert 8 <= len(kept) < K * PROBLEMS
    with FakeEndpoint(solution) as better:
        sample_rollouts(opened(better))
        assert len(better.requests) == K * PROBLEMS - len(kept)


@pytest.fixture
def interruptible():
    """A shell has the tests that it starts in the background ignore what Ctrl-C sends."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_goes_on(server):
    main = threading.main_thread().ident
    server.delay = 0.02
    server.on_answer = lambda count: count == 9 and signal.pthread_kill(main, signal.SIGINT)
    run = opened(server)
    with pytest.raises(KeyboardInterrupt):
        sample_rollouts(run)
    kept = len(answers(run))
    assert 5 <= kept < K * PROBLEMS
    server.requests.clear()
    sample_rollouts(run)
    assert len(server.requests) == K * PROBLEMS - kept


def test_a_torn_line_is_asked_again(server):
    run = opened(server)
    whole = sample_rollouts(run)["pool_sha256"]
    path = max((run.dir / ANSWERS).glob("*.jsonl"))
    text = path.read_bytes()
    path.write_bytes(text[:-20])
    forget_the_pool(run)
    server.requests.clear()
    assert sample_rollouts(run)["pool_sha256"] == whole
    assert len(server.requests) == 1
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sum("answer" in line for line in lines) == K * 2  # of a shard of two prompts


def test_a_line_that_is_none_is_told(server):
    run = opened(server)
    sample_rollouts(run)
    forget_the_pool(run)
    path = min((run.dir / ANSWERS).glob("*.jsonl"))
    parts = (b"\0\0", b'"text"', b'{"other": 1}', b"7", b'{"answer": "k"}', b'{"sent": "k"}')
    for line in (part + b"\n" for part in parts):
        path.write_bytes(line)
        with pytest.raises(
            UserError, match=rf"not a line of this project: {path}: delete .*byte 0"
        ):
            sample_rollouts(run)


def test_two_processes_do_not_ask_for_the_same(server):
    run = opened(server)
    other = Journal(run.dir / ANSWERS)
    with other.writing("other"), pytest.raises(UserError, match="another process asks for this"):
        sample_rollouts(run)
    assert server.requests == []
    sample_rollouts(run)
    other.refresh()
    assert len(other.asked) == K * PROBLEMS


def test_a_full_disk_leaves_whole_lines(server, monkeypatch):
    run = opened(server)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        "finetune_geometry.rollouts.endpoint_journal.os", SimpleNamespace(**vars(os))
    )
    monkeypatch.setattr("finetune_geometry.rollouts.endpoint_journal.os.fsync", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        sample_rollouts(run)
    kept = len(answers(run))
    assert 7 <= kept < K * PROBLEMS
    server.requests.clear()
    sample_rollouts(run)
    assert len(server.requests) == K * PROBLEMS - kept


def test_why_an_answer_ended_is_kept(server):
    filtered, thought, cut = sorted(SOLUTIONS)[:3]

    def answer(body):
        question = question_of(body)
        if question == filtered:
            return {"content": "I cannot", "finish_reason": "content_filter"}
        if question == thought:
            parts = {"reasoning_content": "Let me see. \ud83d"}
            return {"content": None, "message": parts, "finish_reason": "length"}
        if question == cut:
            return {"content": solution(body)[:9], "finish_reason": "length"}
        return {"content": solution(body), "message": {"reasoning": "Hm."}}

    server.answer = answer
    run = opened(server, problems__rollouts=32, rollouts__prompts=28)
    card = sample_rollouts(run)
    pool = run.read_table(rollouts.POOL).set_index("question")
    assert set(pool.loc[filtered, "finish"]) == {"length"}
    assert set(pool.loc[cut, "finish"]) == {"length"}
    assert set(pool["finish"]) == {"stop", "length"}
    # There is nothing to train on where nothing was written: the group goes, and is counted.
    assert thought not in pool.index
    assert card["groups_left_out"] == 1
    assert card["finish_reasons"] == {"stop": 29 * K, "content_filter": K, "length": 2 * K}
    assert (card["empty_answers"], card["with_reasoning"]) == (K, 30 * K)
    kept = answers(run).values()
    assert {answer["reasoning"] for answer in kept} == {"", "Hm.", "Let me see. ?"}
    assert not pool["text"].str.contains("Hm.", regex=False).any()


def test_an_interrupted_answer_is_none(server):
    said = iter(["insufficient_system_resource", "error"])
    server.answer = lambda body: {
        "content": solution(body),
        "finish_reason": next(said, "stop"),
    }
    card = sample_rollouts(opened(server))
    assert card["finish_reasons"] == {"stop": K * PROBLEMS}
    assert card["lost_attempts"] == 2


def test_empty_answers_alone_end_the_run(server):
    server.answer = lambda body: {"content": "", "message": {"reasoning_content": "Hm"}}
    with pytest.raises(UserError, match=r"the first 16 answers are empty: teacher: if it thinks"):
        sample_rollouts(opened(server))
    assert 16 <= server.answered.total() <= 20


def test_a_prompt_without_room_is_left_out_with_its_group(server, capsys):
    long = {"message": "This model's maximum context length is 99 tokens", "code": "400"}
    server.faults.extend(["", long])
    run = opened(server, **endpoint(concurrency=1))
    card = sample_rollouts(run)
    assert (card["no_room"], card["groups_left_out"]) == (2, 1)
    name = load_problems(run.profile, "rollouts")[0].id
    assert f"no room for {name}, left out with its group: This model's" in capsys.readouterr().out
    assert len(server.requests) == K * PROBLEMS - 1  # the third one is not tried
    assert name not in set(run.read_table(rollouts.POOL)["prompt"])


def test_no_room_is_seen_far_into_a_long_message(server):
    server.faults.append({"message": "Oh. " * 60 + "Maximum Context Length is 99 tokens"})
    card = sample_rollouts(opened(server))
    assert (card["no_room"], card["groups_left_out"]) == (K, 1)


def test_no_room_for_anything_ends_the_run(server):
    server.faults.extend([{"message": "no", "code": "context_length_exceeded"}] * 60)
    with pytest.raises(UserError, match="the first 16 answers are empty: teacher: serve it with a"):
        sample_rollouts(opened(server, rollouts__k=20))


def test_it_says_how_far_it_is(server, monkeypatch, capsys):
    monkeypatch.setattr(endpoint_requests, "REPORT", 0.0)
    source = EndpointSource(opened(server, **endpoint(concurrency=1)))
    source.sample(source.problems()[:1], 0)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{n} answers to come, {30 * (3 - n)} tokens written" for n in (2, 1, 0)]
    assert source.asker.amount(12.0).startswith("90 tokens")
    priced = EndpointSource(opened(server, **endpoint(price_output=1.0)))
    assert priced.asker.amount(1 / 3) == "0.3333 spent"


def test_the_key_of_the_environment_is_sent_and_never_shown(server, monkeypatch):
    server.key = "sk-test-123"
    monkeypatch.setenv("OPENAI_API_KEY", " sk-test-123\n")
    run = opened(server)
    sample_rollouts(run)
    for path in run.dir.rglob("*"):
        assert path.is_dir() or b"sk-test" not in path.read_bytes()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(UserError, match=r"refused with 401: .*: set OPENAI_API_KEY") as told:
        sample_rollouts(opened(server, rollouts__k=K + 1))
    assert "sk-" not in str(told.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-“other”")
    with pytest.raises(UserError, match="no key of a server: OPENAI_API_KEY: copy it anew"):
        sample_rollouts(opened(server, rollouts__k=K + 1))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("403", "refused with 403: 127.0.0.1:.*: set OPENAI_API_KEY to a key"),
        ("402", "the account has nothing left: 127.0.0.1:.*: top it up"),
        ("418", "refused with 418: 127.0.0.1:.*: not now; what a server does not take"),
        ("page", "a web page where an answer should be: http://127.0.0.1:.*/v1: mend"),
        ({"message": "seed: extra fields not permitted"}, "refused with 400: .*: seed: extra"),
        ({"message": "What is \ud83d"}, r"refused with 400: .*: What is \?; what a server"),
        ({"code": "x", "hint": "y"}, r'refused with 400: .*: \{"code": "x", "hint": "y"\}; what'),
    ],
)
def test_what_a_person_can_mend_is_told_at_once(server, fault, told):
    server.faults.extend([fault] * 2)
    with pytest.raises(UserError, match=told) as error:
        sample_rollouts(opened(server))
    assert "\n" not in str(error.value)
    assert str(error.value).isascii()  # so that every terminal takes it
    assert len(server.requests) == 1  # the first goes alone


def test_a_quota_that_is_used_up_is_not_waited_for(server, monkeypatch):
    response = SimpleNamespace(status_code=429, headers={}, request=None)
    error = openai.RateLimitError("no", response=response, body={"code": "insufficient_quota"})
    told = endpoint_replies.failure(error, opened(server).profile.rollouts.endpoint, True)
    assert isinstance(told, UserError)
    assert "has nothing left" in str(told)


def test_an_error_half_way_waits_for_what_is_under_way(server):
    server.delay = 0.05
    server.faults.extend([""] * 10 + ["418"])
    run = opened(server)
    with pytest.raises(UserError, match="refused with 418"):
        sample_rollouts(run)
    assert len(answers(run)) == server.answered.total() == len(server.requests) - 1
    assert len(server.requests) <= 14


def test_an_unknown_model_is_told_with_those_that_are_there(server):
    server.models = ["teachers", "qwen"]
    with pytest.raises(UserError, match=r"no model 'teacher': 127.*did you mean 'teachers'\?"):
        sample_rollouts(opened(server))
    wrong = {"base_url": f"http://127.0.0.1:{server.port}/v2"}
    with pytest.raises(UserError, match=r"refused with 404: http://127\S+/v2: check rollouts"):
        sample_rollouts(opened(server, **endpoint(**wrong)))


def test_a_password_in_the_address_is_not_shown(server):
    place = f"127.0.0.1:{server.port}"
    wrong = endpoint(base_url=f"http://me:secret@{place}/v2?key=secret")
    with pytest.raises(UserError, match=rf"refused with 404: http://{place}/v2: check") as told:
        sample_rollouts(opened(server, **wrong))
    assert "secret" not in str(told.value)
    server.stop()
    with pytest.raises(UserError, match=rf"no server there: http://{place}/v2: start it") as told:
        sample_rollouts(opened(server, **wrong))
    assert "secret" not in str(told.value)
    server.start()


def test_a_server_that_is_not_there_is_told_at_once(server):
    server.stop()
    with pytest.raises(UserError, match=r"no server there: http://127\S+/v1: start it"):
        sample_rollouts(opened(server, **endpoint(retries=1000)))
    server.start()


def test_a_server_that_takes_no_connection_was_asked_for_nothing(server):
    """As behind a firewall that drops what comes: it is no answer that is slow."""
    settings = opened(server).profile.rollouts.endpoint
    error = openai.APITimeoutError(httpx2.Request("POST", server.url))
    error.__cause__ = httpx2.ConnectTimeout("")
    told = endpoint_replies.failure(error, settings, heard=False)
    assert isinstance(told, UserError)
    assert str(told).startswith(f"no server there: {server.url}: start it, or mend")
    again = endpoint_replies.failure(error, settings, heard=True)
    assert (str(again), again.lost) == ("not reachable any more", False)
    error.__cause__ = httpx2.ReadTimeout("")
    again = endpoint_replies.failure(error, settings, heard=False)
    assert (str(again), again.lost) == ("no answer within 20 s", True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base_url": ""}, "rollouts.endpoint.base_url is not set: .*8000/v1"),
        ({"model": ""}, "rollouts.endpoint.model is not set: .*model=NAME"),
        ({"base_url": "localhost:8000"}, "= localhost:8000: profile: it must be http:// or"),
        ({"base_url": "http://"}, "= http://: profile: it must be http:// or https://, and a host"),
        ({"base_url": "http://[::1"}, r"= http://\[::1: profile: it must be http://"),
        ({"base_url": "http://host:99999/v1"}, "profile: it must be http:// or https://, and a"),
        ({"price_input": -1.0}, "price_input = -1.0: profile: it must be at least 0"),
        ({"concurrency": 0}, "concurrency = 0: profile: it must be at least 1"),
        ({"timeout": 0.0}, "timeout = 0.0: profile: it must be above 0"),
        ({"retries": -1}, "retries = -1: profile: it must be at least 0"),
        ({"max_cost": 5.0}, "max_cost = 5.0: profile: it must be used with a price"),
        ({"extra_body": "{"}, "extra_body = '{': profile: it must be a JSON object"),
        ({"extra_body": "[]"}, "extra_body = '\\[\\]': profile: it must be a JSON object"),
        ({"extra_body": '{"n": 4}'}, "a JSON object without model, messages, temperature, n"),
    ],
)
def test_settings_that_cannot_work_are_refused(server, changes, told):
    with pytest.raises(UserError, match=told):
        sample_rollouts(opened(server, **endpoint(**changes)))
    assert server.requests == []


def test_a_seed_is_of_the_prompt_not_of_its_place():
    seeds = {seed(first, text, n) for first in (0, 1) for text in "ab" for n in range(3)}
    assert len(seeds) == 12
    assert all(0 <= value < 2**31 for value in seeds)
    assert seed(0, "a", 1) == seed(0, "a", 1)
