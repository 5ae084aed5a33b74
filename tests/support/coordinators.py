"""A coordinator in the test's own event loop: real store, real port, real Socket.IO; and clients to talk to
it.

`FakeProvider` computes with onnxruntime, and only when the test lets it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn

import ravop as R
from ravop.client.uploads import pack
from ravop.errors import ForbiddenBlobError, UnreachableError
from ravop.protocol import messages as m
from ravop.protocol.tensors import (
    Array,
    Blob,
    TensorRef,
    blobs_of,
    decode_tensor,
    encode_tensor,
    reference,
    resolve,
)
from ravop.transport import BlobClient, ControlConnection
from ravsock.server.connection import Connection
from ravsock.server.coordinator import Coordinator
from ravsock.server.run import listen
from ravsock.store import BlobStore, FolderBlobs, Store

WAIT = 20.0


@dataclass
class Served:
    """A coordinator that listens."""

    url: str
    coordinator: Coordinator
    store: Store
    blobs: BlobStore

    def token(self, role: str, name: str = "somebody") -> str:
        return self.store.create_token(role, name, time.time())

    @asynccontextmanager
    async def requester(self, token: str | None = None) -> AsyncIterator[Requester]:
        token = token or self.token("requester")
        client = Requester(self.url, token)
        await client.connection.connect()
        try:
            async with client.blobs:
                yield client
        finally:
            await client.connection.close()

    @asynccontextmanager
    async def provider(
        self, name: str = "one", token: str | None = None, **profile: Any
    ) -> AsyncIterator[FakeProvider]:
        provider = FakeProvider(self.url, token or self.token("provider"), name, **profile)
        try:
            await provider.connect()
            yield provider
        finally:
            await provider.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serving(
    data: Path,
    blobs: Callable[[Path], BlobStore] = FolderBlobs,
    port: int = 0,
    database: str = "",
    redis_url: str | None = None,
) -> AsyncIterator[Served]:
    """Start a coordinator on a folder, and on a `database` in it or elsewhere; everything it has is closed at the end."""
    folder = blobs(data / "blobs")
    store = Store(database or f"sqlite:///{(data / 'ravenverse.db').as_posix()}", folder.head)
    store.migrate()
    listening = listen("127.0.0.1", port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    coordinator = Coordinator(store, folder, address=url, redis_url=redis_url)
    config = uvicorn.Config(
        coordinator.app,
        http=Connection,
        ws="websockets-sansio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        ws_max_size=m.MAX_MESSAGE + 1024,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    coordinator.start()
    running = asyncio.create_task(server.serve(sockets=[listening]))
    await server.listening.wait()
    try:
        yield Served(url, coordinator, store, folder)
    finally:
        coordinator.prepare_to_stop()
        server.should_exit = True
        await running
        await coordinator.stop()
        store.close()


class Requester:
    """A requester's connection, without the comforts of `ravop.client`."""

    def __init__(self, url: str, token: str) -> None:
        hello = m.Hello(token=token, role="requester", software="test")
        self.connection = ControlConnection(url, hello, self._hear, m.ToRequester)
        self.blobs = BlobClient(url, token)
        self.heard: list[m.GraphInfo] = []
        self._news = asyncio.Condition()

    async def _hear(self, message: m.Message) -> m.Message:
        assert isinstance(message, m.GraphInfo)
        async with self._news:
            self.heard.append(message)
            self._news.notify_all()
        return m.Done()

    async def call(self, message: m.Message) -> Any:
        return await self.connection.call(message)

    async def upload(self, graph: R.Graph) -> m.Activate:
        package = pack(graph)
        for sha, data in package.blobs.items():
            await self.blobs.put(data, sha)
        return m.Activate(graph_id=graph.id, model=package.model, manifest=package.manifest)

    async def run(self, graph: R.Graph) -> str:
        """Upload, activate, watch and execute; gives the graph's id."""
        await self.call(await self.upload(graph))
        await self.call(m.Watch(graph_id=graph.id))
        await self.call(m.Execute(graph_id=graph.id))
        return str(graph.id)

    async def until(self, wanted: Callable[[m.GraphInfo], bool]) -> m.GraphInfo:
        """The first event, heard already or coming, that is wanted."""
        async with asyncio.timeout(WAIT), self._news:
            await self._news.wait_for(lambda: any(wanted(info) for info in self.heard))
        return next(info for info in self.heard if wanted(info))

    async def until_state(self, graph_id: str, state: str) -> m.GraphInfo:
        return await self.until(lambda info: info.graph_id == graph_id and info.state == state)

    async def fetch(self, graph_id: str, *names: str) -> list[Array]:
        fetched = await self.call(m.Fetch(graph_id=graph_id, names=names))
        assert all(value.problem is None for value in fetched.values), fetched.values
        return [await load(self.blobs, value.value) for value in fetched.values]


@dataclass
class FakeProvider:
    """A provider that keeps what it is given until told to `work`; with `busy`, it works by itself."""

    url: str
    token: str
    name: str
    slots: int = 1
    memory: int = 1 << 34
    gflops: float = 10.0
    graph_id: str | None = None
    tasks: asyncio.Queue[m.Task] = field(default_factory=asyncio.Queue)
    recalled: list[m.HeldTask] = field(default_factory=list)
    batches: list[tuple[m.Task, ...]] = field(default_factory=list)
    """As they were assigned."""
    done: list[m.Task] = field(default_factory=list)
    refuses: bool = False

    def __post_init__(self) -> None:
        self.blobs = BlobClient(self.url, self.token)
        self._busy: asyncio.Task[None] | None = None
        self._given: dict[tuple[int, int], dict[str, Array]] = {}

    @property
    def profile(self) -> m.Profile:
        return m.Profile(
            name=self.name,
            slots=self.slots,
            threads=1,
            memory=self.memory,
            matmul_gflops=self.gflops,
            conv_gflops=self.gflops,
            engine=f"onnxruntime {onnxruntime.__version__}",
            opset=21,
            platform="test",
            software="test",
        )

    async def connect(self, holding: tuple[m.HeldTask, ...] = ()) -> m.Registered:
        """Also after a `cut`: a new connection."""
        hello = m.Hello(token=self.token, role="provider", software="test")
        self.connection = ControlConnection(self.url, hello, self._hear, m.ToProvider)
        await self.blobs.close()
        self.blobs = BlobClient(self.url, self.token)
        await self.connection.connect()
        registered = await self.connection.call(
            m.Register(provider_id=self.name, profile=self.profile, graph_id=self.graph_id, holding=holding)
        )
        assert isinstance(registered, m.Registered)
        return registered

    async def close(self) -> None:
        if self._busy is not None:
            self._busy.cancel()
        await self.connection.close()
        await self.blobs.close()
        if self._busy is not None:
            with suppress(asyncio.CancelledError, UnreachableError):
                await self._busy

    async def _hear(self, message: m.Message) -> m.Message:
        if isinstance(message, m.Recall):
            self.recalled += message.tasks
        if isinstance(message, m.Assign):
            if self.refuses:
                return m.Refused(problem=R.errors.ComputeError("no").problem)
            self.batches.append(message.tasks)
            for task in message.tasks:
                self.tasks.put_nowait(task)
        return m.Done()

    async def take(self) -> m.Task:
        """The next task it was given."""
        async with asyncio.timeout(WAIT):
            return await self.tasks.get()

    async def compute(self, task: m.Task) -> tuple[m.Output, ...]:
        """Run the subgraph; results above the limit are uploaded."""
        model = await self.blobs.get(task.subgraph, await self.blobs.size(task.subgraph))
        inputs = {value.name: await self._input(task, value.ref) for value in task.inputs}
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        results = session.run([spec.name for spec in task.outputs], inputs)
        named = {spec.name: np.asarray(array) for spec, array in zip(task.outputs, results, strict=True)}
        self._given[task.task_id, task.attempt] = named
        return tuple([await self.output(name, array) for name, array in named.items()])

    async def _input(self, task: m.Task, ref: TensorRef | m.Earlier) -> Array:
        if not isinstance(ref, m.Earlier):
            return await load(self.blobs, ref)
        (batch,) = [batch for batch in self.batches if task in batch]
        earlier = batch[ref.task]
        return self._given[earlier.task_id, earlier.attempt][ref.output]

    async def output(self, name: str, array: Array) -> m.Output:
        data = encode_tensor(array)
        ref = reference(data)
        if isinstance(ref, Blob):
            await self.blobs.put(data, ref.sha)
        return m.Output(name=name, ref=ref)

    async def report(self, **what: Any) -> m.Reported:
        """Tell what became of tasks: `done`, `failed` or `returned`."""
        reported = await self.connection.call(m.Report(**what))
        assert isinstance(reported, m.Reported)
        return reported

    async def deliver(self, task: m.Task, outputs: tuple[m.Output, ...], seconds: float = 0.01) -> m.Reported:
        result = m.TaskResult(task_id=task.task_id, attempt=task.attempt, outputs=outputs, seconds=seconds)
        return await self.report(done=(result,))

    async def fail(self, task: m.Task, problem: R.errors.Problem, node: int | None = None) -> m.Reported:
        failure = m.TaskFailure(task_id=task.task_id, attempt=task.attempt, problem=problem, node=node)
        return await self.report(failed=(failure,))

    async def hand_back(self, *tasks: m.Task) -> m.Reported:
        return await self.report(
            returned=tuple(m.HeldTask(task_id=t.task_id, attempt=t.attempt) for t in tasks)
        )

    async def work(self, task: m.Task) -> m.Reported:
        """Compute and deliver."""
        started = time.perf_counter()
        outputs = await self.compute(task)
        self.done.append(task)
        return await self.deliver(task, outputs, time.perf_counter() - started)

    def keep_working(self) -> None:
        """From now on by itself."""

        async def loop() -> None:
            beating = asyncio.create_task(self._beat())
            try:
                while True:
                    task = await self.tasks.get()
                    try:
                        await self.work(task)
                    except ForbiddenBlobError as error:  # another copy won, and the recall is on its way
                        failure = m.TaskFailure(
                            task_id=task.task_id, attempt=task.attempt, problem=error.problem
                        )
                        await self.connection.call(m.Report(failed=(failure,)))
            finally:
                beating.cancel()

        self._busy = asyncio.create_task(loop())

    async def _beat(self) -> None:
        """It lives; what it has, and what it had, is told."""
        with suppress(UnreachableError):
            while True:
                await asyncio.sleep(3)
                had = [m.HeldTask(task_id=t.task_id, attempt=t.attempt) for b in self.batches for t in b]
                await self.connection.call(m.Beat(holding=tuple(had)))


async def load(blobs: BlobClient, ref: TensorRef) -> Array:
    arrays = {blob.sha: decode_tensor(await blobs.get(blob.sha, blob.size)) for blob in blobs_of(ref)}
    return resolve(ref, lambda blob: arrays[blob.sha])


def branches(count: int, size: int = 8, unit_seconds: float = 0.0) -> R.Graph:
    """`count` independent products, persisted as `branch_0`, …; as many tasks or more."""
    graph = R.Graph(name="branches", rules={"unit_seconds": unit_seconds})
    data = np.arange(size * size, dtype=np.float32).reshape(size, size) / size
    for index in range(count):
        R.matmul(R.t(data), R.t(data + index)).persist_op(name=f"branch_{index}")
    return graph


def expected(index: int, size: int = 8) -> np.ndarray:
    data = np.arange(size * size, dtype=np.float32).reshape(size, size) / size
    return data @ (data + index)


def loop(length: int, width: int = 4) -> R.Graph:
    """A loop that adds: `sums` is a series, `total` its last value."""
    graph = R.Graph(name="loop")
    carry, sums = R.scan(
        lambda c, x: (c + x, R.sum(c + x)),
        R.t(np.zeros(width, np.float32)),
        np.ones((length, width), np.float32),
    )
    sums.persist_each("sum_{}", first=(1,))
    carry.persist_op(name="total")
    graph.report("sum", sums)
    return graph
