"""A plan carried out in one process, unit by unit, the slow and obvious way. Knows nothing of the planner."""

import numpy as np
import onnxruntime as ort

from ravsock.core.plan import START, STOP, Loop, inputs_of, outputs_of


class Interpreter:
    """Runs plans with ONNX Runtime. `draw(low, high)` gives an integer: chunk lengths, and which ready unit comes next."""

    def __init__(self, models, draw):
        self.models = models
        self.draw = draw
        self.sessions = {}
        self.runs = 0

    def graph(self, plan, inputs):
        """Every output of a `GraphPlan` by name."""
        assert set(plan.inputs) == set(inputs)
        return self.scope(plan.main, dict(inputs))

    def scope(self, plan, seen):
        """One instance of a scope. `seen` are the values of its own inputs and of outer scopes. → its outputs."""
        values, pending = dict(seen), list(range(len(plan.units)))
        while pending:
            ready = [i for i in pending if set(inputs_of(plan.units[i])) <= values.keys()]
            assert ready, "no unit can start"
            index = ready[self.draw(0, len(ready) - 1)]
            pending.remove(index)
            unit = plan.units[index]
            needed = {name: values[name] for name in inputs_of(unit)}
            given = self.loop(unit, needed) if isinstance(unit, Loop) else self.subgraph(unit, needed)
            assert given.keys() == set(outputs_of(unit))
            assert not given.keys() & values.keys(), "a value was given twice"
            for name, array in given.items():
                kind = plan.values[name]
                assert str(array.dtype) == kind.dtype
                assert len(array.shape) == len(kind.shape)
                assert all(want in (None, got) for want, got in zip(kind.shape, array.shape, strict=True))
            values |= given
        return {name: values[name] for name in plan.outputs}

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
            extra = {START: np.array([start]), STOP: np.array([stop])}
            given = self.subgraph(unit.chunk, values, extra)
            for name, part in parts.items():
                assert given[name].shape[0] == stop - start
                part.append(given[name])
            values |= {init: given[final] for final, init in finals.items()}
            start = stop
        return {final: values[init] for final, init in finals.items()} | {
            k: np.concatenate(v) for k, v in parts.items()
        }

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


def open_session(data):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
