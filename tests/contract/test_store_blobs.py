"""Who may read which blob, and that what is collected is exactly what nothing needs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import CASES, PROFILE, Bench, training

from ravop.errors import QuotaError, UnreachableError
from ravop.protocol.tensors import Blob, blobs_of
from ravsock.store import Identity
from ravsock.store.garbage import CLAIM_SECONDS

GRACE = 100.0


def requester(bench: Bench, name: str) -> Identity:
    return bench.store.authenticate(bench.store.create_token("requester", name, bench.now))


def test_requesters_read_what_they_uploaded_and_what_their_graphs_gave(bench: Bench) -> None:
    ann = Identity(token_id=bench.owner, role="requester", name="ann")
    eve = requester(bench, "eve")
    case = training(4, 20_000)
    bench.start(case, "g")
    inputs = {b.sha for b in bench.store.manifest("g").bindings}
    bench.drive(case)
    result = bench.store.fetch("g", bench.owner, "weights")
    assert isinstance(result, Blob)
    for sha in inputs | {result.sha}:
        assert bench.store.may_read(ann, sha)
        assert not bench.store.may_read(eve, sha)
    secret = bench.upload(b"eve's own", eve.token_id)
    assert bench.store.may_read(eve, secret.sha)
    assert not bench.store.may_read(ann, secret.sha)
    bench.upload(b"eve's own", ann.token_id)
    assert bench.store.may_read(ann, secret.sha)
    assert not bench.store.may_read(ann, "0" * 64)


def test_providers_read_what_the_tasks_they_hold_need(bench: Bench) -> None:
    bob = Identity(token_id=bench.provider_token, role="provider", name="bob")
    mallory = bench.store.authenticate(bench.store.create_token("provider", "mallory", bench.now))
    bench.store.register_provider("m1", mallory.token_id, PROFILE, bench.now)
    case = training(4, 20_000)
    bench.start(case, "g")
    inputs = {b.sha for b in bench.store.manifest("g").bindings}
    ready = bench.store.ready(1)[0]
    manifest = bench.store.graph("g").manifest_sha
    for sha in {ready.model, *inputs}:
        assert not bench.store.may_read(bob, sha)
    task = bench.lease(ready.task_id, stop=2)
    assert task is not None
    for sha in {ready.model, *inputs}:
        assert bench.store.may_read(bob, sha)
        assert not bench.store.may_read(mallory, sha)
    assert not bench.store.may_read(bob, manifest)
    assert bench.complete(bench.compute(case.workshop.kernels, task)).accepted
    assert not any(bench.store.may_read(bob, sha) for sha in inputs)
    again = bench.lease(ready.task_id)
    assert again is not None
    carried = {b.sha for i in again.inputs for b in blobs_of(i.ref)} - inputs
    assert carried
    assert all(bench.store.may_read(bob, sha) for sha in carried)


def test_to_know_the_name_of_a_blob_is_not_to_have_it(bench: Bench) -> None:
    """A result names what its provider uploaded, or what the graph's owner has; else it would hand it to the owner."""
    ann = Identity(token_id=bench.owner, role="requester", name="ann")
    eve = requester(bench, "eve")
    mallory = bench.store.authenticate(bench.store.create_token("provider", "mallory", bench.now))
    bench.store.register_provider("m1", mallory.token_id, PROFILE, bench.now)
    case = training(4, 20_000)
    bench.start(case, "g")
    task = bench.lease(bench.store.ready(1)[0].task_id, "m1", stop=2)
    assert task is not None
    result = bench.compute(case.workshop.kernels, task, "m1")  # uploaded by bob's p1
    shas = {blob.sha for output in result.outputs for blob in blobs_of(output.ref)}
    for sha in shas:
        bench.upload(bench.blobs[sha], eve.token_id)
    assert shas
    assert set(bench.complete(result).missing) == shas
    assert not any(bench.store.may_read(ann, sha) for sha in shas)
    together = msgspec.structs.replace(result, others=("p1",))
    assert bench.complete(together).accepted
    assert all(bench.store.may_read(ann, sha) for sha in shas)


def test_admins_read_everything(bench: Bench) -> None:
    root = bench.store.authenticate(bench.store.create_token("admin", "root", bench.now))
    assert bench.store.may_read(root, "0" * 64)


def test_a_blob_is_kept_while_it_is_fresh_or_used_and_goes_with_its_graph(bench: Bench) -> None:
    case = training(4, 20_000)
    bench.start(case, "g")
    loose = bench.upload(b"nobody needs this", bench.owner)
    assert collect(bench, GRACE / 2) == set()
    assert collect(bench) == {loose.sha}
    assert bench.store.find_blob(loose.sha, None) is None
    bench.drive(case, 1)
    gone = collect(bench)
    assert gone, "the carries of earlier chunks"
    np.testing.assert_allclose(bench.fetch("g", "weights"), case.expected()["w_end"])
    bench.store.flush(bench.owner)
    left = set(bench.blobs)
    assert collect(bench) == left | set(case.workshop.kernels)


def test_what_is_used_after_the_look_stays_and_what_is_doomed_is_not_there(bench: Bench) -> None:
    """Whoever uses a blob is there before the collector, or finds it gone."""
    used, doomed = (bench.upload(data, bench.owner) for data in (b"used", b"doomed"))
    bench.now += 2 * GRACE
    look = bench.store.unneeded(bench.now - GRACE)
    assert {seen.sha for seen in look.unneeded} == {used.sha, doomed.sha}
    bench.upload(b"used", bench.owner)
    bench.store.doom(look.unneeded)
    assert bench.store.find_blob(doomed.sha, bench.owner) is None
    assert bench.store.usage(bench.owner).used == used.size
    with pytest.raises(UnreachableError, match="cleared away"):
        bench.upload(b"doomed", bench.owner)
    claimed = bench.store.claim(bench.now)
    assert [one.sha for one in claimed] == [doomed.sha]
    assert bench.store.claim(bench.now) == [], "another collector deletes it"
    (again,) = bench.store.claim(bench.now + 2 * CLAIM_SECONDS)
    bench.store.bury(claimed)
    assert bench.store.recorded([doomed.sha]), "who has claimed it last buries it"
    bench.store.bury([again])
    bench.upload(b"doomed", bench.owner)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["training with blobs", "epochs", "wide"]),
    actions=st.lists(st.sampled_from(["step", "lease", "collect", "loose", "add and flush"]), max_size=12),
)
def test_nothing_that_is_needed_is_ever_collected(
    fresh_bench: Callable[[], AbstractContextManager[Bench]], name: str, actions: list[str]
) -> None:
    """Whatever happens in between, the graph runs to the right end with the blobs that are left."""
    with fresh_bench() as bench:
        case, eve = CASES[name](), requester(bench, "eve").token_id
        bench.start(case, "g")
        for action in actions:
            if action == "step":
                bench.step(case, chunk=1)
            elif action == "lease" and (ready := bench.store.ready(1)):
                assert bench.lease(ready[0].task_id, "p2", seconds=1.0) is not None
            elif action == "loose":
                bench.upload(uuid.uuid4().bytes, bench.owner)
            elif action == "add and flush":
                bench.add(training(3, 20_000), "x", eve)
                bench.store.flush(eve)
            elif action == "collect":
                collect(bench)
        collect(bench)
        bench.store.expire(bench.now)
        bench.drive(case)
        for persisted in case.persisted:
            np.testing.assert_allclose(
                bench.fetch("g", persisted.name), case.expected()[persisted.value], rtol=1e-12
            )
        bench.store.flush(bench.owner)
        collect(bench)
        assert bench.blobs == {}


def collect(bench: Bench, later: float = 2 * GRACE) -> set[str]:
    """What goes after a while, from the look to the end of its row."""
    bench.now += later
    bench.store.doom(bench.store.unneeded(bench.now - GRACE).unneeded)
    claimed = bench.store.claim(bench.now)
    for doomed in claimed:
        bench.blobs.pop(doomed.sha, None)
    bench.store.bury(claimed)
    return {doomed.sha for doomed in claimed}


def test_a_rank_of_a_gang_gets_the_copy_of_its_own_graph(bench: Bench) -> None:
    """Ranks are not in the database; of copies that nobody checked, each graph has its own."""
    ann, eve, volunteer = (
        bench.store.authenticate(bench.store.create_token(role, "somebody", 0.0)).token_id
        for role in ("requester", "requester", "provider")
    )
    for owner in (eve, ann):
        bench.store.record_blob("ab" * 32, 5, owner, 0.0, place=owner)
    for owner in (ann, eve):
        found = bench.store.find_for_provider("ab" * 32, volunteer, owner)
        assert found is not None
        assert found.place == owner
    assert bench.store.find_for_provider("ab" * 32, volunteer, None) is None


def test_a_token_may_not_begin_uploads_without_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravsock.store.uploads.AT_A_TIME", 2)
    begun = [bench.store.begin_upload(name * 64, bench.owner, 0, "", 0.0) for name in "ab"]
    assert bench.store.begin_upload("a" * 64, bench.owner, 0, "", 1.0).upload_id == begun[0].upload_id
    with pytest.raises(QuotaError, match="too many"):
        bench.store.begin_upload("c" * 64, bench.owner, 0, "", 0.0)
    bench.store.end_upload(begun[0].upload_id)
    bench.store.begin_upload("c" * 64, bench.owner, 0, "", 0.0)
