"""predict.py in shards: workers, stores and rules without Ray, and with Ray on two nodes of this machine."""
from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, done

fsspec = pytest.importorskip("fsspec", reason="stores need fsspec, which comes with torch and with Ray")

from cluster.job import absolute, list_images  # noqa: E402
from cluster.shards import is_done, lines_of, split  # noqa: E402
from cluster.store import Image, Store  # noqa: E402
from cluster.worker import PredictShard, load  # noqa: E402
from contract.errors import UserError  # noqa: E402
from demo.render import render  # noqa: E402
from prediction.arguments import complete, parse_args  # noqa: E402
from prediction.pictures import read_picture  # noqa: E402

PHOTOS, SHARD, S3_PORT = 12, 5, 5858


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Rendered ones, of which two are damaged."""
    folder = tmp_path_factory.mktemp("cluster")
    render(folder, PHOTOS, 3)
    (folder / "val2017" / "000000000004.jpg").write_bytes(b"")
    whole = (folder / "val2017" / "000000000009.jpg").read_bytes()
    (folder / "val2017" / "000000000009.jpg").write_bytes(whole[:len(whole) // 2])
    return folder / "val2017"


@pytest.fixture(scope="module")
def alone(photos, script, tmp_path_factory) -> Path:
    """What predict.py makes of them in one process."""
    pytest.importorskip("onnxruntime")
    output = tmp_path_factory.mktemp("alone")
    done(script("predict.py", photos, "--no-save_img", "--output", output))
    return output


def arguments(*given: object):
    return absolute(complete(parse_args([str(value) for value in given])))


def lines(path: Path) -> list:
    return path.read_bytes().splitlines(keepends=True)[1:-1]  # without the settings and the end


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_shards_are_the_lines_of_one_process(photos, alone, tmp_path, where):
    output = str(tmp_path / "out") if where == "folder" else f"memory://{tmp_path.name}/out"
    args = arguments(photos, "--output", output)
    images, store, settings = list_images(args.inputs, args.output), Store(output), {"of": "this test"}
    shards = split(images, SHARD)
    assert [len(shard.images) for shard in shards] == [5, 5, 2]
    worker = PredictShard(args, settings)
    found, problems = [], []
    for shard in shards:
        assert not is_done(shard, store, settings)
        told = worker({"shard": json.dumps(shard)})
        assert told["images"] == len(shard.images) and is_done(shard, store, settings)
        assert not is_done(shard, store, {"of": "another"})
        for image, line, problem in lines_of(shard, store):
            found += [] if problem else [line]
            problems += [(image.name, problem)] if problem else []
    assert found == lines(alone / "people.jsonl") and len(found) == PHOTOS - 2
    assert [name for name, _ in problems] == ["000000000004.jpg", "000000000009.jpg"]
    assert all(str(photos) in problem for _, problem in problems)


def test_a_shard_of_other_pictures_is_not_done():
    store = Store("memory://changed/out")
    shard = split([Image("a.jpg", 5, "a.jpg")], 1)[0]
    store.write(shard.file, shard.header({}) + b'{"end": true}\n')
    assert is_done(shard, store, {})
    assert not is_done(shard._replace(images=[Image("a.jpg", 6, "a.jpg")]), store, {})


def test_pictures_of_a_store_in_natural_order_and_from_there(photos, tmp_path):
    store = Store("memory://pictures")
    content = (photos / "000000000001.jpg").read_bytes()
    for name in ("10.jpg", "b/2.JPG", "2.jpg", "notes.txt"):
        store.write(name, content)
    images = store.pictures()
    assert [image.name for image in images] == ["2.jpg", "10.jpg", "b/2.JPG"]
    assert {image.size for image in images} == {len(content)}
    frame = load(0, images[2], tmp_path)
    np.testing.assert_array_equal(frame.image, read_picture(photos / "000000000001.jpg"))
    assert not os.listdir(tmp_path)
    gone = load(0, images[2]._replace(url="memory://pictures/gone.jpg"), tmp_path)
    assert gone.image is None and gone.problem == "memory://pictures/gone.jpg: no such picture, or not readable"
    with pytest.raises(UserError, match="no pictures in it"):
        Store("memory://nothing_here").pictures()
    with pytest.raises(UserError, match="nosuch"):
        Store("nosuch://bucket")


@pytest.mark.parametrize(("given", "reason"), [
    (("--distributed", "local"), "needs a folder of pictures"),
    (("DATA", "--distributed", "local", "--track"), "leave out --track"),
    (("s3://a", "s3://b", "--distributed", "local"), "give one URL alone")])
def test_what_is_refused(photos, script, given, reason):
    pytest.importorskip("ray", reason="Ray is installed by requirements-cluster.txt")
    run = script("predict.py", *[photos if value == "DATA" else value for value in given])
    assert run.returncode == 2 and reason in run.stderr and run.stderr.count("\n") == 1


def test_without_ray_it_is_one_line(photos, script):
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        run = script("predict.py", photos, "--distributed", "local")
        assert run.returncode == 2 and "requirements-cluster.txt" in run.stderr
    else:
        pytest.skip("Ray is installed")


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two raylets with one CPU each, so that a worker has one thread."""
    pytest.importorskip("ray", reason="Ray is installed by requirements-cluster.txt")
    from ray.cluster_utils import Cluster

    os.environ.update({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
                       "AWS_ENDPOINT_URL": f"http://127.0.0.1:{S3_PORT}"})  # the nodes and their workers inherit them
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def many(tmp_path_factory, script) -> Path:
    """120 photos, and what one process with one thread makes of them."""
    folder = tmp_path_factory.mktemp("many")
    render(folder, 120, 5)
    done(subprocess.run([sys.executable, "predict.py", str(folder / "val2017"), "--no-save_img", "--output",
                         str(folder / "alone")], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
                        capture_output=True, text=True))
    return folder


def start(cluster, photos: object, output: object, *options: object) -> subprocess.Popen:
    command = [sys.executable, "predict.py", str(photos), "--distributed", "auto", "--output", str(output), "--shard",
               "10", *map(str, options)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": cluster.address}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def assert_same(output: Path, alone: Path) -> None:
    for name in ("people.jsonl", "alphapose-results.json"):
        assert (output / name).read_bytes() == (alone / name).read_bytes(), name


def test_two_nodes_give_the_bytes_of_one_process(two_nodes, many, tmp_path):
    from pyarrow import parquet

    told = ended(start(two_nodes, many / "val2017", tmp_path / "out", "--price", 2))
    assert "| 120 |" in told and "cost of a million pictures" in told
    assert_same(tmp_path / "out", many / "alone")
    table = parquet.read_table(tmp_path / "out" / "people.parquet").to_pylist()
    images = map(json.loads, lines(tmp_path / "out" / "people.jsonl"))
    people = [(image["image"], person["box_score"]) for image in images for person in image["people"]]
    assert [row["image"] for row in table] == [name for name, _ in people]
    np.testing.assert_allclose([row["box_score"] for row in table], [score for _, score in people], rtol=1e-6)


def workers() -> list:
    found = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True).stdout.split()
    return [int(number) for number in found]


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_is_killed_is_replaced(two_nodes, many, tmp_path, seed):
    process = start(two_nodes, many / "val2017", tmp_path / "out")
    rng = np.random.default_rng(seed)
    while not workers() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(rng.uniform(0.5, 4))
    alive = workers()
    if alive:
        os.kill(int(rng.choice(alive)), signal.SIGKILL)
    ended(process)
    assert_same(tmp_path / "out", many / "alone")


def test_a_node_that_is_lost_is_done_without(two_nodes, many, tmp_path):
    node = two_nodes.add_node(num_cpus=1)
    process = start(two_nodes, many / "val2017", tmp_path / "out")
    while len(workers()) < 2 and process.poll() is None:
        time.sleep(0.1)
    two_nodes.remove_node(node, allow_graceful=False)
    ended(process)
    assert_same(tmp_path / "out", many / "alone")


def test_a_run_that_was_stopped_continues(two_nodes, many, tmp_path):
    process = start(two_nodes, many / "val2017", tmp_path / "out")
    while not list((tmp_path / "out").glob("shards/*.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert process.returncode == 130 and 0 < len(before)
    ended(start(two_nodes, many / "val2017", tmp_path / "out"))
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert len(after) == 12 and before.items() <= after.items()
    assert_same(tmp_path / "out", many / "alone")


def test_a_store_of_s3_that_is_restarted(two_nodes, many):
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    server = pytest.importorskip("moto.server", reason="the S3 server of this test is moto")
    serve = functools.partial(server.ThreadedMotoServer, port=S3_PORT, verbose=False)
    running = serve()
    running.start()
    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    files.put(f"{many / 'val2017'}/", "bucket/photos/", recursive=True)
    process = start(two_nodes, "s3://bucket/photos", "s3://bucket/out")
    while not files.glob("bucket/out/shards/*") and process.poll() is None:
        time.sleep(0.2)
        files.invalidate_cache()
    running.stop()
    time.sleep(3)
    running = serve()  # moto keeps its objects in this process
    running.start()
    try:
        ended(process)
        assert files.cat_file("bucket/out/people.jsonl") == (many / "alone" / "people.jsonl").read_bytes()
    finally:
        running.stop()
