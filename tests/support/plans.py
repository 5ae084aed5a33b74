"""Graph plans made by hand, whose subgraphs are NumPy functions; what they give, computed plainly; and
providers that compute them for a store. Nothing here knows how a graph advances."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from ravop.graph.manifest import Binding, Manifest, Persisted, encode_manifest
from ravop.protocol.messages import Earlier, Output, PlanSummary, Profile, Task, TaskInput
from ravop.protocol.parts import Compute, Repeat
from ravop.protocol.tensors import (
    Array,
    Blob,
    Inline,
    TensorRef,
    decode_tensor,
    encode_tensor,
    reference,
    resolve,
    sha256,
)
from ravsock.core.plan import (
    START,
    STOP,
    Carry,
    Cost,
    Gang,
    GraphPlan,
    Loop,
    PartPlan,
    Plan,
    Port,
    Sliced,
    Stacked,
    Subgraph,
    Unit,
    ValueType,
)
from ravsock.core.program import Program
from ravsock.store import Lease, Outcome, Result, Store

_NUMBERS = itertools.count()

Kernel = Callable[[dict[str, Array]], dict[str, Array]]
Step = Callable[..., tuple[list[Array], list[Array]]]
"""(carries…, slices…, captured…) → new carries, what is stacked."""

COST = Cost(flops=100.0, bytes_in=8, bytes_out=8, peak_memory=1000)
SUMMARY = PlanSummary(
    units=(), flops=0.0, steps=0, useful_providers=1, fleet_seconds=None, single_seconds=None
)
PROFILE = Profile(
    name="fake", slots=1, threads=1, memory=1 << 30, matmul_gflops=10.0, conv_gflops=10.0, engine="numpy", opset=21,
    platform="test", software="test",
)  # fmt: skip


def float_type(*shape: int) -> ValueType:
    return ValueType("float64", shape)


@dataclass
class Workshop:
    """Makes units; keeps the function behind each model, and the step behind each loop."""

    kernels: dict[str, Kernel] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)

    def model(self, label: str, kernel: Kernel) -> str:
        sha = sha256(f"{next(_NUMBERS)} {label}".encode())
        self.kernels[sha] = kernel
        return sha

    def subgraph(
        self, label: str, function: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[str]
    ) -> Subgraph:
        """A unit whose `function` takes the inputs in order and gives a list of outputs."""

        def kernel(given: dict[str, Array]) -> dict[str, Array]:
            results = function(*(given[f"in{i}"] for i in range(len(inputs))))
            return {f"out{i}": np.asarray(result) for i, result in enumerate(results)}

        return Subgraph(
            label=label, model=self.model(label, kernel), nodes=(f"{label}_node",), cost=COST,
            inputs=tuple(Port(f"in{i}", value) for i, value in enumerate(inputs)),
            outputs=tuple(Port(f"out{i}", value) for i, value in enumerate(outputs)),
        )  # fmt: skip

    def loop(
        self, label: str, length: int, step: Step, carries: Sequence[Carry], sliced: Sequence[Sliced] = (),
        stacked: Sequence[Stacked] = (), captured: Sequence[str] = (), steps: int = 1,
    ) -> Loop:  # fmt: skip
        """A chunked loop."""
        inputs = [c.init for c in carries] + [s.source for s in sliced] + list(captured)
        outputs = [c.final for c in carries] + [s.stacked for s in stacked]
        self.steps[label] = step

        def kernel(given: dict[str, Array]) -> dict[str, Array]:
            values = [given[f"in{i}"] for i in range(len(inputs))]
            start, stop = int(given[START][0]), int(given[STOP][0])
            results = self.iterate(label, len(carries), len(sliced), values, range(start, stop))
            return {f"out{i}": np.asarray(result) for i, result in enumerate(results)}

        chunk = Subgraph(
            label=label, model=self.model(label, kernel), nodes=(f"{label}_node",), cost=COST,
            inputs=tuple(Port(f"in{i}", value) for i, value in enumerate(inputs)),
            outputs=tuple(Port(f"out{i}", value) for i, value in enumerate(outputs)),
        )  # fmt: skip
        return Loop(
            label=label, length=length, carries=tuple(carries), sliced=tuple(sliced), stacked=tuple(stacked),
            captured=tuple(captured), steps=steps, chunk=chunk, cost=COST,
        )  # fmt: skip

    def iterate(
        self, label: str, carries: int, sliced: int, values: list[Array], numbers: Iterable[int]
    ) -> list[Array]:
        """The carries after these iterations, and what they stack."""
        state, series, captured = (
            values[:carries],
            values[carries : carries + sliced],
            values[carries + sliced :],
        )
        stacked: list[list[Array]] = []
        for number in numbers:
            state, given = self.steps[label](*state, *(s[number] for s in series), *captured)
            stacked.append(given)
        return [*state, *(np.stack(column) for column in zip(*stacked, strict=True))]

    def evaluate(self, plan: Plan, known: dict[str, Array]) -> dict[str, Array]:
        """What a scope's values are, in the order of its units: the oracle."""
        values = dict(known)
        for unit in plan.units:
            values |= self._evaluate_unit(unit, values)
        return values

    def _evaluate_unit(self, unit: Unit, values: dict[str, Array]) -> dict[str, Array]:
        if isinstance(unit, Subgraph):
            given = {port.name: values[port.value] for port in unit.inputs}
            results = self.kernels[unit.model](given)
            return {port.value: results[port.name] for port in unit.outputs}
        state = {carry.body_in: values[carry.init] for carry in unit.carries}
        series: dict[str, list[Array]] = {s.stacked: [] for s in unit.stacked}
        if unit.body is None:
            inputs = [values[c.init] for c in unit.carries] + [values[s.source] for s in unit.sliced]
            inputs += [values[name] for name in unit.captured]
            numbers = range(unit.first, unit.first + unit.length)
            results = self.iterate(unit.label, len(unit.carries), len(unit.sliced), inputs, numbers)
            names = [c.final for c in unit.carries] + [s.stacked for s in unit.stacked]
            if unit.first:  # a further range of the loop
                results = [np.concatenate([values[n], r]) for n, r in zip(names, results, strict=True)]
            return dict(zip(names, results, strict=True))
        for number in range(unit.length):
            inner = self.evaluate(
                unit.body, values | state | {s.body_in: values[s.source][number] for s in unit.sliced}
            )
            state = {carry.body_in: inner[carry.body_out] for carry in unit.carries}
            for s in unit.stacked:
                series[s.stacked].append(inner[s.body_out])
        finals = {carry.final: state[carry.body_in] for carry in unit.carries}
        return finals | {name: np.stack(parts) for name, parts in series.items()}


@dataclass
class Case:
    """A graph to run, and what must come out."""

    workshop: Workshop
    plan: GraphPlan
    inputs: dict[str, Array]
    persisted: tuple[Persisted, ...]
    metrics: dict[str, str] = field(default_factory=dict)

    def expected(self) -> dict[str, Array]:
        """By the name of the graph output."""
        return self.workshop.evaluate(self.plan.main, dict(self.inputs))


def make_case(
    workshop: Workshop, units: Sequence[Unit], values: dict[str, ValueType], inputs: dict[str, Array],
    persisted: Sequence[Persisted], steps: int = 0, metrics: dict[str, str] | None = None,
) -> Case:  # fmt: skip
    outputs = tuple(dict.fromkeys(p.value for p in persisted))
    main = Plan(units=tuple(units), values=values, outputs=outputs)
    plan = GraphPlan(main=main, inputs=tuple(inputs), flops=1.0, steps=steps, summary=SUMMARY)
    return Case(workshop, plan, inputs, tuple(persisted), metrics or {})


# ── a coordinator's surroundings: blobs, owner, providers ─────────────────────────────────────────
class Bench:
    """A store with one requester and some providers, and a dict for the blobs."""

    def __init__(self, store: Store, providers: Sequence[str] = ("p1", "p2", "p3")) -> None:
        self.store = store
        self.blobs: dict[str, bytes] = {}
        self.now = 1000.0
        self.owner = store.authenticate(store.create_token("requester", "ann", self.now)).token_id
        self.provider_token = store.authenticate(store.create_token("provider", "bob", self.now)).token_id
        for name in providers:
            store.register_provider(name, self.provider_token, PROFILE, self.now)

    def upload(self, data: bytes, owner: int | None) -> Blob:
        sha = sha256(data)
        self.blobs[sha] = data
        self.store.record_blob(sha, len(data), owner, self.now)
        return Blob(sha, len(data))

    def add(self, case: Case, graph_id: str, owner: int | None = None) -> str:
        """Upload and activate."""
        owner = self.owner if owner is None else owner
        bindings = []
        for name, value in case.inputs.items():
            blob = self.upload(encode_tensor(value), owner)
            bindings.append(Binding(input=name, sha=blob.sha, size=blob.size))
        for model in Program(case.plan).models():
            self.store.record_blob(model, 100, None, self.now)
        manifest = Manifest(
            graph_id=graph_id, name=graph_id, bindings=tuple(bindings), persisted=case.persisted, metrics=case.metrics,
            sources=("train.py:7: model.fit(x)",),
            node_sources={f"{label}_node": 0 for label in ("mean", "grow", "train")},
        )  # fmt: skip
        model = self.upload(f"model of {graph_id}".encode(), owner)
        kept = self.upload(encode_manifest(manifest), owner)
        self.store.add_graph(owner, manifest, model.sha, kept.sha, case.plan, self.now)
        return graph_id

    def start(self, case: Case, graph_id: str) -> str:
        self.store.start_graph(self.add(case, graph_id), self.owner, self.now)
        return graph_id

    def read(self, blob: Blob) -> Array:
        return decode_tensor(self.blobs[blob.sha])

    def value(self, ref: TensorRef) -> Array:
        return resolve(ref, self.read)

    def lease(
        self, task_id: int, provider: str = "p1", stop: int | None = None, seconds: float = 30.0
    ) -> Task | None:
        batch = self.batch((task_id,), provider, seconds, stop=stop)
        return batch[0] if batch else None

    def batch(
        self, tasks: Sequence[int], provider: str = "p1", seconds: float = 30.0, **more: Any
    ) -> tuple[Task, ...]:
        """Lease some tasks together."""
        deadline = self.now + seconds
        lease = Lease(provider_id=provider, deadline=deadline, tasks=tuple(tasks), **more)
        return self.store.lease([lease], self.now)[0]

    def compute(self, kernels: Mapping[str, Kernel], task: Task, provider: str = "p1") -> Result:
        """The task's result; what is large is uploaded."""
        inputs = {given.name: self.value(given.ref) for given in task.inputs}
        results = kernels[task.subgraph](inputs)
        outputs = []
        for name, value in results.items():
            data = encode_tensor(value)
            ref = reference(data)
            if isinstance(ref, Blob):
                self.upload(data, self.provider_token)
            outputs.append(Output(name=name, ref=ref))
        return Result(
            task_id=task.task_id, attempt=task.attempt, provider_id=provider, outputs=tuple(outputs)
        )

    def complete(self, result: Result) -> Outcome:
        return self.store.complete([result], self.now)[0]

    def compute_all(
        self, kernels: Mapping[str, Kernel], batch: Sequence[Task], provider: str = "p1"
    ) -> list[Result]:
        """The results of a batch, each computed with what those before it gave."""
        results: list[Result] = []
        for task in batch:
            results.append(self.compute(kernels, with_earlier(task, results), provider))
        return results

    def step(self, case: Case, provider: str = "p1", chunk: int = 2) -> Outcome | None:
        """Lease, compute and complete one ready task; None where none is ready."""
        ready = self.store.ready(1)
        if not ready:
            return None
        task = self.lease(ready[0].task_id, provider, stop=ready[0].start + chunk)
        assert task is not None
        self.now += 1.0
        return self.complete(self.compute(case.workshop.kernels, task, provider))

    def drive(self, case: Case, chunk: int = 2) -> int:
        """Run what is there to its end; gives how many results were taken."""
        taken = 0
        while (outcome := self.step(case, chunk=chunk)) is not None:
            assert outcome.accepted, outcome
            taken += 1
        return taken

    def fetch(self, graph_id: str, name: str) -> Array:
        return self.value(self.store.fetch(graph_id, self.owner, name))


def with_earlier(task: Task, results: Sequence[Result]) -> Task:
    """The task, with what earlier tasks of its batch gave in place."""
    given = [{output.name: output.ref for output in result.outputs} for result in results]
    inputs = [
        msgspec.structs.replace(i, ref=given[i.ref.task][i.ref.output]) if isinstance(i.ref, Earlier) else i
        for i in task.inputs
    ]
    return msgspec.structs.replace(task, inputs=tuple(inputs))


def whole_chunk(ranks: Sequence[Task]) -> Task:
    """What a gang's tasks are together: the chunk as one provider would get it."""
    first, part = ranks[0], ranks[0].part
    assert part is not None
    numbers = {START: part.start, STOP: part.stop}
    inputs = {i.name: i for task in ranks for i in task.inputs} | {
        name: TaskInput(name=name, ref=Inline(encode_tensor(np.array([n], np.int64))))
        for name, n in numbers.items()
    }
    outputs = tuple(output for task in ranks for output in task.outputs)
    return msgspec.structs.replace(first, inputs=tuple(inputs.values()), outputs=outputs, part=None)


# ── the graphs ────────────────────────────────────────────────────────────────────────────────────
def one(name: str, value: str | None = None) -> Persisted:
    return Persisted(name=name, value=value or name)


def chain(length: int = 3) -> Case:
    """x → y0 → y1 → …, each unit waiting for the one before."""
    shop = Workshop()
    names = ["x", *(f"y{i}" for i in range(length))]
    units = [
        shop.subgraph(f"chain {i}", lambda v: [v * 2 + 1], [names[i]], [names[i + 1]]) for i in range(length)
    ]
    types = {name: float_type(4) for name in names}
    return make_case(shop, units, types, {"x": np.arange(4.0)}, [one("result", names[-1])], steps=length)


def wide(width: int = 6) -> Case:
    """Independent units, then one that reads two outputs of each and `x` twice."""
    shop = Workshop()
    units: list[Unit] = [
        shop.subgraph(f"branch {i}", lambda v, i=i: [v * i, v + i], ["x"], [f"a{i}", f"b{i}"])
        for i in range(width)
    ]
    reads = ["x", "x", *(f"{letter}{i}" for i in range(width) for letter in "ab")]
    units.append(shop.subgraph("mean", lambda *vs: [sum(vs) / len(vs)], reads, ["m"]))
    types = {name: float_type(4) for name in {*reads, "m"}}
    return make_case(
        shop, units, types, {"x": np.arange(4.0)}, [one("mean", "m"), one("first", "a1")], steps=width + 1
    )


def with_gang(loop: Loop) -> Loop:
    """The same loop, which two providers can run together too: the second gives what is stacked."""
    assert loop.chunk is not None
    model = sha256(f"part of {loop.chunk.model}".encode())
    steps = Repeat(length=loop.length, steps=(Compute(subgraph=model, inputs=(), outputs=()),))
    inputs, outputs = ([port.name for port in ports] for ports in (loop.chunk.inputs, loop.chunk.outputs))
    carries = len(loop.carries)
    parts = (
        PartPlan(loop=steps, inputs=tuple(inputs), outputs=tuple(outputs[:carries]), peak_memory=500),
        PartPlan(loop=steps, inputs=tuple(inputs[:1]), outputs=tuple(outputs[carries:]), peak_memory=400),
    )
    gang = Gang(
        parts=parts, seconds=1.0, bytes=8, exchanges=1, nodes={model: ("before_node", f"{loop.label}_node")}
    )
    return msgspec.structs.replace(loop, gangs=(gang,))


def lattice(width: int = 3, depth: int = 4) -> Case:
    """Layers of units, each reading two of the layer before it, and the first layer twice the input."""
    shop = Workshop()
    layers = [["x"] * width] + [[f"l{d}_{w}" for w in range(width)] for d in range(depth)]
    units: list[Unit] = [
        shop.subgraph(
            f"{d} {w}",
            lambda a, b, w=w: [a * 0.5 + b + w],
            [layers[d][w], layers[d][w - 1]],
            [layers[d + 1][w]],
        )
        for d in range(depth)
        for w in range(width)
    ]
    types = {name: float_type(4) for layer in layers for name in layer}
    persisted = [one(f"end {w}", name) for w, name in enumerate(layers[-1])]
    return make_case(shop, units, types, {"x": np.arange(4.0)}, persisted, steps=width * depth)


def training(length: int = 7, size: int = 3, *, gang: bool = False) -> Case:
    """A chunked loop with two carries that begin with one value, which is captured too; then a unit that
    reads its end.

    With a large `size` the carries travel as blobs; with `gang`, two providers can run a chunk together.
    """
    shop = Workshop()

    def step(w: Array, m: Array, x: Array, zero: Array) -> tuple[list[Array], list[Array]]:
        m = 0.5 * m + x + zero
        return [w - 0.1 * m, m], [(w * x).sum()]

    carries = [
        Carry(init="zero", final="w_end", body_in="w_in", body_out="w_out"),
        Carry(init="zero", final="m_end", body_in="m_in", body_out="m_out"),
    ]
    loop = shop.loop(
        "train", length, step, carries, [Sliced(source="xs", body_in="x")], [Stacked(body_out="l", stacked="losses")],
        ["zero"],
    )  # fmt: skip
    loop = with_gang(loop) if gang else loop
    after = shop.subgraph("mean", lambda w, ls: [w.sum() + ls.sum()], ["w_end", "losses"], ["score"])
    types = {name: float_type(size) for name in ("zero", "w_end", "m_end")}
    types |= {"xs": float_type(length, size), "losses": float_type(length), "score": float_type()}
    xs = np.sin(np.arange(length * size, dtype=float)).reshape(length, size)
    persisted = [
        one("weights", "w_end"), one("score"), Persisted(name="loss_{}", value="losses", axes=1, first=(1,)),
    ]  # fmt: skip
    return make_case(
        shop, [loop, after], types, {"zero": np.full(size, 0.25), "xs": xs}, persisted, steps=length,
        metrics={"loss": "losses"},
    )  # fmt: skip


def mapped(ranges: Sequence[int] = (3, 1, 4, 2), size: int = 3) -> Case:
    """A loop without carries as several units, one for each range of its iterations; then a unit that reads all that
    it stacks.
    """
    shop = Workshop()
    length = sum(ranges)
    loop = shop.loop(
        "map", length, lambda x, k: ([], [x * k, (x * x).sum()]), [], [Sliced(source="xs", body_in="x")],
        [Stacked(body_out="row", stacked="rows"), Stacked(body_out="norm", stacked="norms")], ["k"],
    )  # fmt: skip
    units: list[Unit] = [
        msgspec.structs.replace(loop, first=sum(ranges[:number]), length=count)
        for number, count in enumerate(ranges)
    ]
    units.append(shop.subgraph("mean", lambda rows, norms: [norms @ rows], ["rows", "norms"], ["score"]))
    types = {name: float_type(length, size) for name in ("xs", "rows")}
    types |= {"norms": float_type(length), "k": float_type(), "score": float_type(size)}
    xs = np.sin(np.arange(length * size, dtype=float)).reshape(length, size)
    persisted = [one("rows"), one("score"), Persisted(name="norm_{}", value="norms", axes=1, first=(0,))]
    return make_case(
        shop, units, types, {"xs": xs, "k": np.array(1.5)}, persisted, steps=length, metrics={"norm": "norms"}
    )


def epochs(count: int = 3, batches: int = 5) -> Case:
    """An opened loop over epochs: a subgraph, a chunked loop over batches, two branches; losses of shape
    (epochs, batches).
    """
    shop = Workshop()
    inner = shop.loop(
        "train", batches, lambda w, x, k: ([w + 0.1 * x * k], [w.sum() * x]),
        [Carry(init="w1", final="w2", body_in="wi", body_out="wo")], [Sliced(source="xs", body_in="xi")],
        [Stacked(body_out="li", stacked="losses_e")], ["scale"],
    )  # fmt: skip
    body = Plan(
        units=(
            shop.subgraph("grow", lambda w, d: [w + d], ["w0", "delta"], ["w1"]),
            inner,
            shop.subgraph("left", lambda w: [w * 0.5], ["w2"], ["left"]),
            shop.subgraph("right", lambda w, k: [w * k, (w * k).sum()], ["w2", "scale"], ["right", "val"]),
            shop.subgraph("join", lambda a, b: [a + b], ["left", "right"], ["w_next"]),
        ),
        values={name: float_type(2) for name in ("w0", "w1", "w2", "left", "right", "w_next")}
        | {
            "delta": float_type(),
            "losses_e": float_type(batches),
            "val": float_type(),
            "scale": float_type(),
        },
        outputs=("w_next", "losses_e", "val"),
    )
    outer = Loop(
        label="epochs", length=count, carries=(Carry(init="w", final="w_end", body_in="w0", body_out="w_next"),),
        sliced=(Sliced(source="deltas", body_in="delta"),),
        stacked=(Stacked(body_out="losses_e", stacked="losses"), Stacked(body_out="val", stacked="vals")),
        captured=("scale", "xs"), steps=batches + 1, body=body, cost=COST,
    )  # fmt: skip
    units: list[Unit] = [
        shop.subgraph("prepare", lambda d: [d * 0.5], ["raw"], ["deltas"]),
        outer,
        shop.subgraph("mean", lambda ls, w: [ls.mean() + w.sum()], ["losses", "w_end"], ["score"]),
    ]
    types = {
        "raw": float_type(count), "deltas": float_type(count), "scale": float_type(), "w": float_type(2),
        "w_end": float_type(2), "xs": float_type(batches), "losses": float_type(count, batches),
        "vals": float_type(count), "score": float_type(),
    }  # fmt: skip
    inputs = {
        "raw": np.arange(count, dtype=float), "scale": np.array(0.3), "w": np.array([1.0, -2.0]),
        "xs": np.cos(np.arange(batches, dtype=float)),
    }  # fmt: skip
    persisted = [
        one("weights", "w_end"), one("score"),
        Persisted(name="loss_epoch_{}_batch_{}", value="losses", axes=2, first=(1, 1)),
        Persisted(name="val_{}", value="vals", axes=1, first=(1,)),
    ]  # fmt: skip
    return make_case(
        shop,
        units,
        types,
        inputs,
        persisted,
        steps=count * (batches + 1),
        metrics={"loss": "losses", "val": "vals"},
    )


def nested(outer: int = 2, middle: int = 3) -> Case:
    """An opened loop in an opened loop, the inner one slicing a value that the outer scope made, its carry
    begun with the outer one's, and reading over both borders."""
    shop = Workshop()
    inner_body = Plan(
        units=(
            shop.subgraph("add", lambda s, x, k: [s + x * k], ["s_in", "x", "k"], ["s_mid"]),
            shop.subgraph("note", lambda s: [s, s * s], ["s_mid"], ["s_out", "square"]),
        ),
        values={name: float_type() for name in ("s_in", "x", "k", "s_mid", "s_out", "square")},
        outputs=("s_out", "square"),
    )
    inner = Loop(
        label="inner", length=middle, carries=(Carry(init="t_in", final="t_out", body_in="s_in", body_out="s_out"),),
        sliced=(Sliced(source="row", body_in="x"),), stacked=(Stacked(body_out="square", stacked="squares"),),
        captured=("k",), body=inner_body, cost=COST,
    )  # fmt: skip
    outer_body = Plan(
        units=(shop.subgraph("row", lambda t, z: [z + t], ["t_in", "z"], ["row"]), inner),
        values={"t_in": float_type(), "t_out": float_type(), "z": float_type(middle), "row": float_type(middle),
                "squares": float_type(middle)},
        outputs=("t_out", "squares"),
    )  # fmt: skip
    loop = Loop(
        label="outer", length=outer, carries=(Carry(init="t", final="t_end", body_in="t_in", body_out="t_out"),),
        sliced=(Sliced(source="zs", body_in="z"),), stacked=(Stacked(body_out="squares", stacked="table"),),
        captured=("k",), body=outer_body, cost=COST,
    )  # fmt: skip
    types = {
        "t": float_type(), "t_end": float_type(), "k": float_type(), "zs": float_type(outer, middle),
        "table": float_type(outer, middle),
    }  # fmt: skip
    inputs = {
        "t": np.array(1.0),
        "k": np.array(2.0),
        "zs": np.arange(outer * middle, dtype=float).reshape(outer, middle),
    }
    persisted = [one("t", "t_end"), Persisted(name="square_{}_{}", value="table", axes=2, first=(0, 0))]
    return make_case(shop, [loop], types, inputs, persisted, steps=outer * middle)


CASES: dict[str, Callable[[], Case]] = {
    "chain": chain, "wide": wide, "lattice": lattice, "training": training, "training with blobs": lambda: training(4, 20_000),
    "epochs": epochs, "nested": nested, "map": mapped,
}  # fmt: skip
