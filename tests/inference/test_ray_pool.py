"""What a pool does with its actors' tasks, with a stand-in for Ray that runs them here."""

import types
from pathlib import Path

import pytest

from papez_lobes.errors import UserError
from papez_lobes.inference import ray_pool
from papez_lobes.inference.batch import BatchOptions
from papez_lobes.inference.ray_pool import START_TRIES, TRIES, ActorPool, KilledTask


class Death(Exception):
    """Raised by a task, or an initializer, whose process is killed."""


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Ray:
    """Stands for the module `ray`: what an actor promised is done when it is asked for."""

    exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self):
        self.started = self.killed = 0

    def put(self, value):
        return value

    def remote(self, **resources):
        return lambda kind: types.SimpleNamespace(remote=lambda *words: self._actor(kind(*words)))

    def _actor(self, own):
        self.started += 1

        def method(function):
            return types.SimpleNamespace(remote=lambda *words: (object(), function, words))

        return types.SimpleNamespace(start=method(own.start), work=method(own.work))

    def wait(self, promises, timeout=None):
        return promises[:1], promises[1:]

    def get(self, promise):
        _, function, words = promise
        try:
            return function(*words)
        except Death as error:
            raise RayError("the actor died") from error
        except Exception as error:
            raise RayTaskError(error) from error

    def kill(self, actor):
        self.killed += 1


def die(*words):
    raise Death


def test_as_many_actors_as_tasks_do_all_of_them():
    ray = Ray()
    pool = ActorPool(ray, 3)
    tasks = [pool.submit(pow, number, 2) for number in range(10)]
    assert [task.result() for task in tasks] == [number**2 for number in range(10)]
    assert ray.started == 3 and ray.killed == 0
    few = ActorPool(ray, 9)
    assert few.submit(max, 1, 2).result() == 2 and ray.started == 4


def test_a_task_whose_actors_are_killed_fails_alone_and_an_error_costs_no_actor():
    ray, deaths = Ray(), []

    def die_once():
        if not deaths:
            deaths.append(1)
            raise Death
        return "done again"

    pool = ActorPool(ray, 2)
    once, always, wrong = pool.add(die_once), pool.add(die), pool.add(divmod, 1, 0)
    done = []
    while len(done) < 3:
        done += pool.advance()
    assert set(done) == {once, always, wrong} and once.result() == "done again"
    with pytest.raises(KilledTask, match=f"its worker was killed {TRIES} times"):
        always.result()
    with pytest.raises(ZeroDivisionError):
        wrong.result()
    assert ray.killed == 1 + TRIES


@pytest.mark.parametrize("initializer", [die, lambda: 1 / 0])
def test_actors_that_cannot_start_are_one_line(initializer):
    ray = Ray()
    with pytest.raises(UserError, match="no worker of Ray's can start"):
        ActorPool(ray, 2, "CPU", initializer).submit(max, 1, 2).result()
    assert ray.started == ray.killed == START_TRIES


def test_a_cluster_without_machines_is_one_line():
    """Its promises are never kept."""
    ray = Ray()
    ray.wait = lambda promises, timeout: ([], promises)
    ray.cluster_resources = lambda: {"memory": 1.0}
    with pytest.raises(UserError, match="no machine with a CPU is left"):
        ActorPool(ray, 2).submit(max, 1, 2).result()


@pytest.mark.parametrize("bundle", ["..", "../../bundle", "papez-small-8k"])
def test_a_worker_gets_a_bundle_under_a_name_that_is_one_folder(tmp_path, monkeypatch, bundle):
    (tmp_path / "bundle/inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "bundle/inner")
    sent = []

    def open_pool(address, jobs, kind, initializer, options, name, files):
        sent.append(name)
        raise UserError("no cluster")

    monkeypatch.setattr(ray_pool, "open_pool", open_pool)
    with pytest.raises(UserError, match="no cluster"):
        list(ray_pool.separate_on_ray([], BatchOptions({"bundle": bundle}), 2))
    assert sent == [Path(bundle).name if bundle == "papez-small-8k" else "bundle"]
