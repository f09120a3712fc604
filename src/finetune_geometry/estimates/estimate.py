"""The estimate of a profile: hours, peak memory, disk, downloads and money of every stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from finetune_geometry.estimates import flops, memory
from finetune_geometry.estimates.architecture import BYTES, Architecture, architecture_of
from finetune_geometry.estimates.asked import why_asked
from finetune_geometry.estimates.downloads import downloads
from finetune_geometry.estimates.lengths import Lengths, lengths_of
from finetune_geometry.estimates.machines import GIB, Machine, machine_for
from finetune_geometry.estimates.work import (
    Asked,
    Item,
    Read,
    Trained,
    Written,
    held_tokens,
    is_reference,
    steps_of,
    work,
)
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile

ENDPOINT_RATE = 50.0  # tokens a second of one request: assumed
TEXT = 2.0  # bytes of a token of text in a compressed table
POOL = 80.0  # bytes of a token of the pool as lists and tables in memory: computed
LIGHT, HEAVY = 0.8, 2.1  # GiB of a notebook without and with a model: the reference run's


@dataclass(frozen=True)
class Stage:
    """What one chapter costs. Hours are those of one machine that does nothing else."""

    name: str
    seconds: float = 0.0
    low: float = 0.0  # seconds with assumed constants at their fast and slow ends
    high: float = 0.0
    flops: float = 0.0
    gpu_gib: float = 0.0
    host_gib: float = LIGHT
    disk_gib: float = 0.0
    download_gib: float = 0.0
    money: float = 0.0
    measured: bool = False  # its speed, on this machine and at this shape
    note: str = ""
    asked: bool = False  # executed only when asked for


@dataclass(frozen=True)
class Estimate:
    """All stages of a profile, and what they rest on."""

    profile: Profile
    machine: Machine
    lengths: Lengths
    stages: tuple[Stage, ...]

    def total(self, what: str, asked: bool = False) -> float:
        """Sum of a column; the largest value for memory. asked: with what must be asked for."""
        values = [getattr(stage, what) for stage in self.stages if asked or not stage.asked]
        return max(values) if what in ("gpu_gib", "host_gib") else sum(values)

    @property
    def device_seconds(self) -> float:
        """Of the stages that compute on the GPU; on a CPU, of all but the wait for a server."""
        on_gpu = self.machine.gpu_gib > 0
        executed = [stage for stage in self.stages if not stage.asked]
        return sum(s.seconds for s in executed if s.flops and (s.gpu_gib or not on_gpu))

    def stage(self, name: str) -> Stage:
        """A stage by its name; an unknown one is a light chapter that only starts."""
        seconds = self.machine["start_seconds"]
        return next((s for s in self.stages if s.name == name), Stage(name, seconds=seconds))


def estimate(
    profile: Profile,
    gpu: str = "",
    run: str = "",
    hour_price: float = 0.0,
    machine: Machine | None = None,
) -> Estimate:
    """Estimate every stage of a profile for a machine, or for a device (`machines.machine_for`).

    run: whose pool tells how long texts are. hour_price: of the GPU, for the money.
    """
    shape = architecture_of(profile.model.base, profile.model.base_revision)
    if machine is None:
        threads, needs_gpu = profile.training.threads, profile.model.needs_gpu
        machine = machine_for(gpu, shape, threads, needs_gpu)
    text = lengths_of(profile, run)
    ends = [machine, machine.at("high"), machine.at("low")]
    costs = [_Cost(profile, one, shape, text) for one in ends]
    wanted = downloads(profile)
    stages = [
        Stage(
            "prefetch",
            disk_gib=sum(one.gib for one in wanted),
            download_gib=sum(one.gib for one in wanted if not one.here),
        )
    ]
    for name, items in work(profile, text).items():
        stage, fast, slow = (cost.stage(name, items) for cost in costs)
        stage = replace(stage, low=fast.seconds, high=slow.seconds)
        if machine.gpu_gib and stage.gpu_gib:
            stage = replace(stage, money=stage.money + stage.seconds / 3600 * hour_price)
        if why := why_asked(name, is_reference(profile)):
            stage = replace(stage, note=why, asked=True)
        stages.append(stage)
    return Estimate(profile, machine, text, tuple(stages))


@dataclass(frozen=True)
class _Cost:
    """Turns items of work into a stage, for one profile on one machine."""

    profile: Profile
    machine: Machine
    shape: Architecture
    text: Lengths

    def stage(self, name: str, items: Iterable[Item]) -> Stage:
        parts = [self.part(item) for item in items]
        pool = self._pool_gib() if any(isinstance(item, Trained | Read) for item in items) else 0.0
        heavy = any(isinstance(item, Trained | Written | Read) for item in items)
        models = max((part.host_gib for part in parts), default=0.0)
        host = max(HEAVY + models + pool if heavy else models, LIGHT)
        scale = self._modules() if name.startswith("geometry/") or name == "your_adapters" else 1.0
        seconds = sum(part.seconds for part in parts) * (scale if not heavy else 1.0)
        return Stage(
            name,
            seconds=seconds + self.machine["start_seconds"],
            flops=sum(part.flops for part in parts),
            gpu_gib=max((part.gpu_gib for part in parts), default=0.0),
            host_gib=host,
            disk_gib=sum(part.disk_gib for part in parts),
            money=sum(part.money for part in parts),
            measured=heavy and all(part.measured for part in parts),
            note=" ".join(part.note for part in parts if part.note),
        )

    def part(self, item: Item) -> Stage:
        """The cost of one item, without the start of a notebook."""
        if isinstance(item, Trained):
            return self._trained(item)
        if isinstance(item, Written):
            return self._written(item)
        if isinstance(item, Read):
            return self._read(item)
        if isinstance(item, Asked):
            return self._asked(item)
        return Stage("", seconds=item.seconds, host_gib=item.gib, measured=True)

    def _trained(self, item: Trained) -> Stage:
        shape, machine, lora = self.shape, self.machine, self.profile.lora
        dtype = self.profile.model.dtype
        recompute = memory.recomputes(
            self.profile.training.gradient_checkpointing,
            *(shape, lora, dtype, item.micro_tokens, machine.gpu_gib),
        )
        # On a CPU the head leaves out the prompts only where its vocabulary is large.
        compact = machine.gpu_gib > 0 or shape.vocabulary >= flops.LARGE_VOCABULARY
        scored = item.scored if compact else 1.0
        step = flops.training(shape, lora, item.length, scored, recompute)
        total = item.positions * step + item.reference * flops.reading(shape, item.length, scored)
        on_cpu = 0.0 if machine.gpu_gib else self._cpu_training_gib(item)
        adapters = shape.trained(lora) * 4 / GIB
        return Stage(
            "",
            seconds=total / (machine["matrix_rate"] * machine["training_share"]),
            flops=total,
            gpu_gib=memory.training_gib(shape, lora, dtype, item.micro_tokens, recompute)
            if machine.gpu_gib
            else 0.0,
            host_gib=on_cpu,
            # It, a checkpoint with Adam's moments meanwhile, and what is kept on the way.
            disk_gib=(4 + len(self.profile.training.snapshots)) * adapters,
            measured=self._measured("matrix_rate", "training_share"),
        )

    def _written(self, item: Written) -> Stage:
        machine = self.machine
        shape = self.shape if item.role == "base" else self._teacher()
        context = item.prompt + item.new / 2
        read = item.prompts * item.prompt * flops.reading(shape, item.prompt)
        wrote = item.answers * item.new * flops.writing(shape, context)
        seconds = read / (machine["matrix_rate"] * machine["reading_share"])
        arithmetic = machine["matrix_rate"] * machine["writing_share"]
        known = ["matrix_rate", "reading_share", "writing_share", "layer_seconds"]
        paged = machine.gpu_gib > 0  # continuous batching; else one batch after another
        dtype, held = self.profile.model.dtype, held_tokens(item)
        rows = float(min(item.batch, item.answers))
        if paged:
            held = item.prompt + item.new  # others are at their beginning
            together = item.answers / item.models
            rows = memory.rows_at_once(shape, dtype, held, together, machine.gpu_gib)
            steps = item.answers * item.new / max(rows, 1.0)
            moved = shape.parameters * BYTES[dtype] + rows * context * shape.cache_bytes(dtype)
            moving = moved / (machine["bandwidth"] * machine["bandwidth_share"])
            seconds += steps * max(moving, wrote / max(steps, 1.0) / arithmetic)
            seconds += steps * machine["step_seconds"]
            known += ["bandwidth", "bandwidth_share", "step_seconds"]
        else:
            seconds += steps_of(item) * shape.layers * machine["layer_seconds"]
            seconds += wrote / arithmetic
        if item.adapted:
            seconds *= machine["mixture_writing"]
            known.append("mixture_writing")
        return Stage(
            "",
            seconds=seconds,
            flops=read + wrote,
            gpu_gib=memory.writing_gib(shape, dtype, held, max(rows, memory.LEAST_ROWS))
            if machine.gpu_gib
            else 0.0,
            host_gib=0.0 if machine.gpu_gib else self._cpu_writing_gib(shape, dtype, item),
            disk_gib=item.answers * item.new * TEXT / GIB,
            measured=self._measured(*known),
        )

    def _read(self, item: Read) -> Stage:
        shape, machine, dtype = self.shape, self.machine, self.profile.model.dtype
        total = item.tokens * flops.reading(shape, item.length, item.scored)
        seconds = total / (machine["matrix_rate"] * machine["reading_share"])
        kept = item.kept * shape.layers * shape.width * 4 / GIB
        if item.kept:  # a Gram matrix for each model and layer, 0.65 s at 1,000 tokens and 7 models
            seconds += 0.65 / 7 * item.kept / 1000 * shape.layers * shape.width / 2560
        passing = (item.passing, item.length, item.scored)
        gpu = memory.reading_gib(shape, dtype, *passing, kept=item.kept > 0)
        return Stage(
            "",
            seconds=seconds * machine["mixture_reading"],
            flops=total,
            gpu_gib=gpu if machine.gpu_gib else 0.0,
            host_gib=2 * kept + (0.0 if machine.gpu_gib else memory.cpu_weights_gib(shape, dtype)),
            measured=self._measured("matrix_rate", "reading_share", "mixture_reading"),
        )

    def _asked(self, item: Asked) -> Stage:
        server = self.profile.rollouts.endpoint
        new = item.answers * item.new
        paid = item.answers * item.prompt * server.price_input + new * server.price_output
        return Stage(
            "",
            seconds=new / (max(server.concurrency, 1) * ENDPOINT_RATE),
            note=f"waits for the server: {server.concurrency} requests at a time, each "
            f"{ENDPOINT_RATE:.0f} tokens a second (assumed)",
            disk_gib=new * 2 * TEXT / GIB,
            money=paid / 1e6,
        )

    def _measured(self, *names: str) -> bool:
        return all(self.machine.constants[name].measured for name in names)

    def _teacher(self) -> Architecture:
        model = self.profile.model
        return architecture_of(model.teacher, model.teacher_revision)

    def _modules(self) -> float:
        """The size of the adapters against those of 144 modules of width 2,560."""
        return self.shape.modules(self.profile.lora) * self.shape.width / (144 * 2560)

    def _pool_gib(self) -> float:
        rollouts = self.profile.rollouts
        return rollouts.prompts * rollouts.k * self.text.row * POOL / GIB

    def _cpu_training_gib(self, item: Trained) -> float:
        shape, lora = self.shape, self.profile.lora
        kept = 2 * memory.activations(shape, lora, item.micro_tokens, False)  # fp32 beside bf16
        adapters = shape.trained(lora) * 16  # weights, gradients, two moments of Adam
        return (shape.parameters * BYTES[self.profile.model.dtype] + adapters + kept) / GIB

    def _cpu_writing_gib(self, shape: Architecture, dtype: str, item: Written) -> float:
        rows = min(item.batch, item.answers)
        held = rows * held_tokens(item) * shape.cache_bytes(dtype)
        return memory.cpu_weights_gib(shape, dtype) + held / GIB


_made: dict[str, Estimate | None] = {}


def cached(profile: Profile) -> Estimate | None:
    """The estimate of a profile for this machine, made once; None if it cannot be made."""
    key = repr(profile)
    if key not in _made:
        try:
            _made[key] = estimate(profile)
        except UserError:  # a model whose shape is not known here
            _made[key] = None
    return _made[key]
