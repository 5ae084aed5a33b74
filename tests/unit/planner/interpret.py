"""A plan carried out in one process, unit by unit, the slow and obvious way. Knows nothing of the planner."""

import numpy as np
import onnxruntime as ort

from ravop.protocol.parts import Compute, Exchange, Part, Repeat, check_part
from ravsock.core.plan import START, STOP, Loop, inputs_of, outputs_of


class Interpreter:
    """Runs plans with ONNX Runtime. `draw(low, high)` gives an integer: chunk lengths, and which ready unit comes next."""

    def __init__(self, models, draw):
        self.models = models
        self.draw = draw
        self.sessions = {}
        self.runs = self.gangs = 0
        self.rtol = 1e-5

    def graph(self, plan, inputs):
        """Every output of a `GraphPlan` by name."""
        assert set(plan.inputs) == set(inputs)
        return self.scope(plan.main, dict(inputs))

    def scope(self, plan, seen):
        """One instance of a scope. `seen` are the values of its own inputs and of outer scopes. → its outputs."""
        values, pending = dict(seen), list(range(len(plan.units)))
        ranges = {}
        while pending:
            ready = [i for i in pending if set(inputs_of(plan.units[i])) <= values.keys()]
            assert ready, "no unit can start"
            index = ready[self.draw(0, len(ready) - 1)]
            pending.remove(index)
            unit = plan.units[index]
            needed = {name: values[name] for name in inputs_of(unit)}
            given = self.loop(unit, needed) if isinstance(unit, Loop) else self.subgraph(unit, needed)
            assert given.keys() == set(outputs_of(unit))
            if isinstance(unit, Loop) and not unit.carries:
                given = self.whole(plan, unit, given, ranges)
            assert not given.keys() & values.keys(), "a value was given twice"
            for name, array in given.items():
                kind = plan.values[name]
                assert str(array.dtype) == kind.dtype
                assert len(array.shape) == len(kind.shape)
                assert all(want in (None, got) for want, got in zip(kind.shape, array.shape, strict=True))
            values |= given
        return {name: values[name] for name in plan.outputs}

    @staticmethod
    def whole(plan, unit, given, ranges):
        """The values of a loop when all its ranges are done; nothing before."""
        parts = ranges.setdefault(outputs_of(unit), {})
        assert unit.first not in parts
        parts[unit.first] = given
        others = [other for other in plan.units if outputs_of(other) == outputs_of(unit)]
        assert len({other.chunk and other.chunk.model for other in others}) == 1
        if len(parts) < len(others):
            return {}
        assert [other.first for other in others] == [
            sum(u.length for u in others[:i]) for i in range(len(others))
        ]
        return {name: np.concatenate([parts[first][name] for first in sorted(parts)]) for name in given}

    def subgraph(self, unit, values, extra=None):
        feeds = {port.name: values[port.value] for port in unit.inputs} | (extra or {})
        results = self.session(unit.model).run([port.name for port in unit.outputs], feeds)
        return {port.value: array for port, array in zip(unit.outputs, results, strict=True)}

    def loop(self, unit, values):
        return self.opened(unit, values) if unit.body is not None else self.chunked(unit, values)

    def chunked(self, unit, values):
        finals = {carry.final: carry.init for carry in unit.carries}
        parts = {stacked.stacked: [] for stacked in unit.stacked}
        values, start = dict(values), 0
        while start < unit.length:
            stop = self.draw(start + 1, unit.length)
            extra = {START: np.array([unit.first + start]), STOP: np.array([unit.first + stop])}
            given = self.subgraph(unit.chunk, values, extra)
            for gang in unit.gangs:
                self.gang(unit.chunk, gang, values, start, stop, unit.length, given)
            for name, part in parts.items():
                assert given[name].shape[0] == stop - start
                part.append(given[name])
            values |= {init: given[final] for final, init in finals.items()}
            start = stop
        return {final: values[init] for final, init in finals.items()} | {
            k: np.concatenate(v) for k, v in parts.items()
        }

    def gang(self, chunk, gang, values, start, stop, length, expected):
        """All ranks of a gang do what the chunk did, in turns, and give the same."""
        self.gangs += 1
        ports = {port.name: values[port.value] for port in chunk.inputs}
        ranks = Ranks(len(gang.parts), self.session)
        walks = []
        for rank, part in enumerate(gang.parts):
            walk = Part(rank=rank, ranks=len(gang.parts), start=start, stop=stop, loop=part.loop)
            check_part(walk, part.inputs, part.outputs)
            walks.append(ranks.part(walk, {name: ports[name] for name in part.inputs}))
        given = ranks.in_turns(walks)
        assert not any(ranks.mail.values()), "a message that nobody takes"
        assert gang.bytes * (stop - start) == max(
            ranks.sent.get(r, 0) + ranks.received.get(r, 0) for r in range(len(gang.parts))
        )
        found = {}
        for part, results in zip(gang.parts, given, strict=True):
            for name in part.outputs:
                assert name not in found, "two ranks give one output"
                found[name] = results[name]
        assert found.keys() == {port.name for port in chunk.outputs}
        for port in chunk.outputs:
            array, want = found[port.name], expected[port.value]
            assert (array.dtype, array.shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(array, want, rtol=self.rtol, atol=1e-6, err_msg=port.value)

    def opened(self, unit, values):
        carries = {carry.body_in: values[carry.init] for carry in unit.carries}
        captured = {name: values[name] for name in unit.captured}
        parts = {stacked.stacked: [] for stacked in unit.stacked}
        for index in range(unit.length):
            sliced = {s.body_in: np.asarray(values[s.source][index]) for s in unit.sliced}
            given = self.scope(unit.body, captured | carries | sliced)
            carries = {carry.body_in: given[carry.body_out] for carry in unit.carries}
            for stacked in unit.stacked:
                parts[stacked.stacked].append(given[stacked.body_out])
        return {c.final: carries[c.body_in] for c in unit.carries} | {
            k: np.stack(v) for k, v in parts.items()
        }

    def session(self, sha):
        self.runs += 1
        if sha not in self.sessions:
            self.sessions[sha] = open_session(self.models[sha])
        return self.sessions[sha]


class Ranks:
    """The ranks of one gang, each a generator that stops where a message is missing."""

    def __init__(self, count, session):
        self.mail = {}
        self.sent, self.received = {}, {}
        self.session = session

    def in_turns(self, walks):
        results, waiting = [None] * len(walks), dict(enumerate(walks))
        while waiting:
            moved = False
            for rank, walk in list(waiting.items()):
                try:
                    moved |= next(walk)
                except StopIteration as stop:
                    results[rank] = stop.value
                    del waiting[rank]
                    moved = True
            assert moved, "all ranks wait for each other"
        return results

    def part(self, part, inputs):
        return (yield from self.repeat(part, part.loop, inputs, range(part.start, part.stop)))

    def repeat(self, part, loop, around, iterations):
        state = {carry.body_in: around[carry.init] for carry in loop.carries}
        stacks = {stack.stacked: [] for stack in loop.stacked}
        for index in iterations:
            scope = {**around, **state, **{s.body_in: around[s.source][index, ...] for s in loop.sliced}}
            for step in loop.steps:
                if isinstance(step, Compute):
                    feeds = {wire.port: scope[wire.value] for wire in step.inputs}
                    arrays = self.session(step.subgraph).run([wire.port for wire in step.outputs], feeds)
                    scope |= {w.value: array for w, array in zip(step.outputs, arrays, strict=True)}
                elif isinstance(step, Exchange):
                    yield from self.exchange(part.rank, step, scope)
                else:
                    assert isinstance(step, Repeat)
                    scope |= yield from self.repeat(part, step, scope, range(step.length))
            state = {carry.body_in: scope[carry.body_out] for carry in loop.carries}
            for stack in loop.stacked:
                stacks[stack.stacked].append(scope[stack.body_out])
        finals = {carry.final: state[carry.body_in] for carry in loop.carries}
        return finals | {name: np.stack(arrays) for name, arrays in stacks.items()}

    def exchange(self, rank, step, scope):
        arrays = [scope[value.name] for value in step.gives]
        for value, array in zip(step.gives, arrays, strict=True):
            assert (str(array.dtype), array.shape) == (value.dtype, value.shape)
        self.sent[rank] = self.sent.get(rank, 0) + sum(array.nbytes for array in arrays)
        for other in step.to:
            self.mail.setdefault((rank, other), []).append(arrays)
            yield True
        for other, values in step.takes.items():
            while not self.mail.get((other, rank)):
                yield False
            arrays = self.mail[other, rank].pop(0)
            self.received[rank] = self.received.get(rank, 0) + sum(array.nbytes for array in arrays)
            for value, array in zip(values, arrays, strict=True):
                assert (str(array.dtype), array.shape) == (value.dtype, value.shape)
                scope[value.name] = array
            yield True


def open_session(data):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
