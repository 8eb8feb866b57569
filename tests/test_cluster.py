"""predict.py in shards: workers, stores and rules without Ray, and with Ray on two nodes of this machine."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, done, one_error

fsspec = pytest.importorskip("fsspec", reason="stores need fsspec, which comes with torch and with Ray")

from cluster import parts  # noqa: E402
from cluster.inputs import Reader, list_entries, load  # noqa: E402
from cluster.job import absolute  # noqa: E402
from cluster.pretended import column, nodes_here, poison, workers_here  # noqa: E402
from cluster.shards import Entry, is_done, lines_of, split, to_json  # noqa: E402
from cluster.store import Store  # noqa: E402
from cluster.worker import PredictShard  # noqa: E402
from contract.errors import UserError  # noqa: E402
from demo.render import render  # noqa: E402
from prediction.arguments import complete, parse_args  # noqa: E402
from prediction.pictures import read_picture  # noqa: E402

PHOTOS, SHARD, S3_PORT, DASHBOARD_PORT = 12, 5, 5858, 5860  # of moto 5859 too
RESULTS = ("people.jsonl", "alphapose-results.json")


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


def found_by_worker(args, entries: list, output: str) -> tuple:
    """Shards, lines, and problems by name, of a worker that does one shard after another."""
    store, settings, shards = Store(output), {"of": "this test"}, split(entries, SHARD)
    worker = PredictShard(args, settings)
    found, problems = [], {}
    for shard in shards:
        told = worker({"shard": to_json(shard)})
        assert is_done(shard, store, settings) and not is_done(shard, store, {"of": "another"})
        rows = list(lines_of(store.read(shard.file)))
        assert told["images"] == len(rows) and told["failed"] == sum(bool(problem) for *_, problem in rows)
        found += [line for _, line, problem in rows if not problem]
        problems.update({key[0]: problem for key, _, problem in rows if problem})
    assert store.names("shards") == {shard.file for shard in shards}
    return shards, found, problems


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_shards_are_the_lines_of_one_process(photos, alone, tmp_path, where):
    output = str(tmp_path / "out") if where == "folder" else f"memory://{tmp_path.name}/out"
    args = arguments(photos, "--output", output)
    shards, found, problems = found_by_worker(args, list_entries(args.inputs, args.output, SHARD), output)
    assert [shard.images for shard in shards] == [5, 5, 2]
    assert found == lines(alone / "people.jsonl") and len(found) == PHOTOS - 2
    assert list(problems) == ["000000000004.jpg", "000000000009.jpg"]
    assert all(str(photos) in problem for problem in problems.values())


def tar_of(photos: Path, path: Path, names: list) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name in names:
            tar.add(photos / name, f"./{name}")
        tar.add(ROOT / "README.md", "notes.txt")
    return path


@pytest.mark.parametrize("name", ["one.tar", "one.tgz"])
def test_a_tar_file_is_a_shard_of_its_pictures(photos, alone, tmp_path, name):
    names = sorted(os.listdir(photos))
    args = arguments(tar_of(photos, tmp_path / name, names), "--output", tmp_path / "out")
    shards, found, problems = found_by_worker(args, list_entries(args.inputs, args.output, SHARD), args.output)
    assert len(shards) == 1 and found == lines(alone / "people.jsonl")
    assert problems["000000000004.jpg"].startswith(f"{tmp_path / name}: ./000000000004.jpg: ")


def test_a_tar_file_that_was_cut_short_gives_what_it_holds(photos, alone, tmp_path):
    names = sorted(os.listdir(photos))[:3]
    whole = tar_of(photos, tmp_path / "a.tar", names).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:whole.index(names[2].encode()) + 1000])
    args = arguments(tmp_path / "*.tar", "--output", tmp_path / "out")
    _, found, problems = found_by_worker(args, list_entries(args.inputs, args.output, SHARD), args.output)
    stem = f"{tmp_path}/".lstrip("/")
    images = [json.loads(line)["image"] for line in found]
    assert images == [f"{stem}a/{name}" for name in names] + [f"{stem}b/{name}" for name in names[:2]]
    assert len(problems) == 1 and "Is the tar file complete?" in problems[f"{stem}b/"]


def test_ranges_of_a_video_are_its_frames(tmp_path):
    """With frames that are shown before a key frame and come after it, and times that are not even."""
    av = pytest.importorskip("av", reason="video needs av")
    from prediction.sources import Video

    rng, path = np.random.default_rng(0), tmp_path / "clip.mp4"
    times = np.cumsum(rng.integers(1, 5, 50))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "8", "bf": "3", "x264-params": "open-gop=1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for number, time_ in enumerate(times.tolist()):
            image = np.full((64, 96, 3), 5 * number, np.uint8)
            image[:, number:number + 20] = rng.integers(0, 255, 3)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time_, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    whole = list(Video(str(path)).frames())
    args = arguments(path, "--output", tmp_path / "out")
    shards = split(list_entries(args.inputs, args.output, 10), 10)
    assert len(shards) > 2 and sum(shard.images for shard in shards) == len(whole) == 50
    reader = Reader()
    frames = [load() for shard in reversed(shards) for load in reader.loads(shard.entries[0], 0, tmp_path)]
    frames.sort(key=lambda frame: int(frame.name[:-4]))
    assert [frame[0] for frame in frames] == [frame[0] for frame in whole]
    for frame, same in zip(frames, whole):
        np.testing.assert_array_equal(frame.image, same.image)


def test_a_range_can_be_left_before_the_end_of_the_video(tmp_path):
    """In a process of its own, because a decoder that is freed while its threads work waits for ever."""
    av = pytest.importorskip("av", reason="video needs av")
    rng, path = np.random.default_rng(0), tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(100):
            image = rng.integers(0, 255, (240, 320, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    code = ("import sys; from prediction.sources import Video; from prediction.video import VideoReader; "
            "print(sum(1 for _ in range(5) for part in VideoReader(sys.argv[1]).ranges(5) "
            "for _ in Video(sys.argv[1]).frames(part)))")
    assert done(subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True,
                               timeout=200)) == "500\n"


def test_a_shard_of_other_pictures_is_not_done():
    store = Store("memory://changed/out")
    shard = split([Entry("a.jpg", 5, "a.jpg")], 1)[0]
    store.write(shard.file, shard.header({}) + b'{"end": true}\n')
    assert is_done(shard, store, {})
    assert not is_done(shard._replace(entries=[Entry("a.jpg", 6, "a.jpg")]), store, {})


def test_files_of_a_store_in_natural_order_and_from_there(photos, tmp_path):
    store = Store("memory://pictures")
    content = (photos / "000000000001.jpg").read_bytes()
    for name in ("10.jpg", "b/2.JPG", "2.jpg", "b/more.tar", "notes.txt"):
        store.write(name, content)
    entries = list_entries(["memory://pictures"], "out", SHARD)
    assert [entry.name for entry in entries] == ["2.jpg", "10.jpg", "b/2.JPG", "b/more/"]
    assert {entry.size for entry in entries} == {len(content)}
    assert [entry.name for entry in list_entries(["memory://pictures/*.jpg"], "out", SHARD)] == ["2.jpg", "10.jpg"]
    assert [entry.name for entry in list_entries(["memory://pictures/b/more.tar"], "out", SHARD)] == [""]
    frame = load(entries[2], 0, tmp_path)
    np.testing.assert_array_equal(frame.image, read_picture(photos / "000000000001.jpg"))
    assert not os.listdir(tmp_path)
    gone = load(entries[2]._replace(url="memory://pictures/gone.jpg"), 0, tmp_path)
    assert gone.image is None and gone.problem == "memory://pictures/gone.jpg: no such picture, or not readable"
    with pytest.raises(UserError, match="no pictures in it"):
        list_entries(["memory://nothing_here"], "out", SHARD)
    with pytest.raises(UserError, match="nosuch"):
        Store("nosuch://bucket")


def test_hdfs_without_its_client_is_one_line():
    pytest.importorskip("pyarrow", reason="hdfs:// goes through pyarrow, which comes with Ray")
    with pytest.raises(UserError, match=r"^hdfs://127.0.0.1:1/photos: [^\n]*Hadoop \(JAVA_HOME[^\n]*$"):
        Store("hdfs://127.0.0.1:1/photos")


@pytest.mark.parametrize(("given", "reason"), [
    (("--distributed", "local"), "needs files: a folder of pictures"),
    (("none.tar", "--distributed", "local"), "none.tar: no such tar file"),
    (("DATA", "--distributed", "local", "--track"), "leave out --track"),
    (("s3://a", "s3://b", "--distributed", "local"), "give one URL alone")])
def test_what_is_refused(photos, script, given, reason):
    pytest.importorskip("ray", reason="Ray is installed by requirements-distributed.txt")
    run = script("predict.py", *[photos if value == "DATA" else value for value in given])
    assert run.returncode == 2 and reason in run.stderr and run.stderr.count("\n") == 1


def test_without_ray_it_is_one_line(photos, script):
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        run = script("predict.py", photos, "--distributed", "local")
        assert run.returncode == 2 and "requirements-distributed.txt" in run.stderr
    else:
        pytest.skip("Ray is installed")


@pytest.mark.parametrize("given", [("--runner", "acl"), ("--gt_boxes",)])
def test_the_stages_of_devices_are_cut_and_the_others_are_not(given, monkeypatch):
    from jobs.arguments import parse_args
    from jobs.plan import plan
    from jobs.series import make_choices, make_jobs

    monkeypatch.setattr("jobs.series.not_importable", lambda packages: [])
    target = "Ascend310P3" if "--runner" in given else "cpu"
    args = parse_args(["--targets", target, "--demo", "--distributed", "auto", "--workers", "3", *given])
    (job,) = make_jobs(args, make_choices(args))
    asked = [parts.parse_args(list(stage.command[2:])) for stage in plan(job)
             if stage.command[:2] == ("-m", "cluster.parts")]
    assert {(one.where, one.workers) for one in asked} == {("auto", 3)}
    assert [one.command[0] for one in asked] == ["detect.py"] * ("--gt_boxes" not in given) + ["infer.py", "infer.py"]


@pytest.mark.parametrize(("given", "reason"), [
    (("--runner", "ais_bench"), "ais_bench takes no part of a folder"),
    (("--runner", "acl", "--device", "0,1"), "Ray chooses the devices")])
def test_what_a_validation_job_refuses(main, given, reason):
    assert reason in one_error(main("run", "--targets", "Ascend310P3", "--demo", "--distributed", "local", *given))


def test_a_validation_job_on_two_devices_is_that_of_one(script, tmp_path, monkeypatch):
    """On emulated NPUs, of which Ray shows each part one."""
    pytest.importorskip("ray", reason="Ray is installed by requirements-distributed.txt")
    from tests.emulator import environment

    command = ("run.py", "--targets", "Ascend310P3", "--runner", "acl", "--demo", "--limit", 12, "--work")
    for name, value in environment(soc="Ascend310P3", devices=2).items():
        monkeypatch.setenv(name, value)  # of the node and its workers too
    done(script(*command, tmp_path / "one"))
    with nodes_here(1, num_cpus=2, resources={"NPU": 2}) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        output = done(script(*command, tmp_path / "two", "--distributed", "auto"))
    assert all(f"part {number}/2: " in output for number in range(2)), output
    scores = [tmp_path / where / "results" / "Ascend310P3_bs16_score" for where in ("one", "two")]
    one, two = ((folder / "keypoints.json").read_bytes() for folder in scores)
    assert one == two
    one, two = (json.loads((folder / "metrics.json").read_text())["metrics"] for folder in scores)
    assert one == two


def test_npus_share_the_cpus_of_their_machines():
    """Of which the smallest share is everybody's: one with 192 CPUs and 8 NPUs, one with 21 and 2, one with 1 and 2."""
    from cluster.nodes import cpus_for_each, kind_of

    machines = [{"CPU": 192.0, "NPU": 8.0}, {"CPU": 21.0, "NPU": 2.0}, {"CPU": 1.0, "NPU": 2.0}]
    assert [cpus_for_each(machines[:count], "NPU") for count in (1, 2, 3)] == [{"num_cpus": 24}, {"num_cpus": 10}, {}]
    assert kind_of({"resources": {"NPU": 1}, "num_cpus": 24}) == "NPU" and kind_of({"num_cpus": 24}) is None


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two raylets with one CPU each, so that a worker has one thread, and a server of jobs."""
    pytest.importorskip("ray", reason="Ray is installed by requirements-distributed.txt")
    os.environ.update({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
                       "AWS_ENDPOINT_URL": f"http://127.0.0.1:{S3_PORT}"})  # the nodes and their workers inherit them
    with nodes_here(include_dashboard=True, dashboard_port=DASHBOARD_PORT) as cluster:
        yield cluster


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
    for name in RESULTS:
        assert (output / name).read_bytes() == (alone / name).read_bytes(), name


def test_two_nodes_give_the_bytes_of_one_process(two_nodes, many, tmp_path):
    from pyarrow import parquet

    told = ended(start(two_nodes, many / "val2017", tmp_path / "out", "--price", 2))
    assert "| 120 |" in told and "cost of a million images" in told
    assert_same(tmp_path / "out", many / "alone")
    table = parquet.read_table(tmp_path / "out" / "people.parquet").to_pylist()
    images = map(json.loads, lines(tmp_path / "out" / "people.jsonl"))
    people = [(image["image"], person["box_score"]) for image in images for person in image["people"]]
    assert [row["image"] for row in table] == [name for name, _ in people]
    np.testing.assert_allclose([row["box_score"] for row in table], [score for _, score in people], rtol=1e-6)


def test_pictures_that_cannot_be_read_are_listed_and_take_no_memory(two_nodes, many, tmp_path):
    """Some are empty, some cut short, and some say in their formats that they have 3.6e9 pixels: 11 GB decoded."""
    folder = Path(shutil.copytree(many / "val2017", tmp_path / "poisoned"))
    poisoned = poison(folder, 10)
    told = ended(start(two_nodes, folder, tmp_path / "out"))
    problems = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").open()]
    assert [problem["image"] for problem in problems] == [path.name for path in poisoned] and len(problems) == 12
    assert all(problem["problem"].startswith(str(folder)) for problem in problems)
    found = [json.loads(line) for line in lines(tmp_path / "out" / "people.jsonl")]
    kept = [json.loads(line) for line in lines(many / "alone" / "people.jsonl")]
    assert found == [image for image in kept if image["image"] not in {path.name for path in poisoned}]
    assert int(column(told, "largest worker").split()[0]) < 2000, told


def test_tar_files_and_videos_give_the_bytes_of_one_process(two_nodes, many, tmp_path):
    """Of which predict.py reads no tar: it is given the folder."""
    av = pytest.importorskip("av", reason="video needs av")
    photos = sorted((many / "val2017").iterdir())[:15]
    with tarfile.open(tmp_path / "photos.tar", "w") as tar, av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "8", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for photo in photos:
            tar.add(photo, photo.name)
            frame = av.VideoFrame.from_ndarray(read_picture(photo), format="rgb24").reformat(320, 240)
            for _ in range(3):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "in" / "photos").mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, tmp_path / "in" / "photos")
    predict = [sys.executable, ROOT / "predict.py"]
    done(subprocess.run([*predict, "in", "clip.mp4", "--no-save_img", "--no-save_video", "--output", "alone"],
                        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True))
    done(subprocess.run([*predict, "photos.tar", "clip.mp4", "--distributed", "auto", "--shard", "10"],
                        cwd=tmp_path, env={**os.environ, "RAY_ADDRESS": two_nodes.address}, capture_output=True,
                        text=True))
    names = [json.loads(line)["image"] for line in lines(tmp_path / "alone" / "people.jsonl")]
    assert names[0] == "photos/000000000001.jpg" and names[-1] == "clip/44.jpg" and len(names) == 60
    assert len(list((tmp_path / "predictions" / "shards").iterdir())) >= 4  # of the tar one
    assert_same(tmp_path / "predictions", tmp_path / "alone")


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_is_killed_is_replaced(two_nodes, many, tmp_path, seed):
    process = start(two_nodes, many / "val2017", tmp_path / "out")
    rng = np.random.default_rng(seed)
    while not workers_here() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(rng.uniform(0.5, 4))
    alive = workers_here()
    if alive:
        os.kill(int(rng.choice(alive)), signal.SIGKILL)
    ended(process)
    assert_same(tmp_path / "out", many / "alone")


def test_a_machine_with_another_version_is_named(two_nodes, many, tmp_path):
    """As pip would have written it there."""
    (tmp_path / "onnxruntime-0.9.dist-info").mkdir()
    (tmp_path / "onnxruntime-0.9.dist-info" / "METADATA").write_text("Name: onnxruntime\nVersion: 0.9\n")
    node = two_nodes.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path)})
    process = start(two_nodes, many / "val2017", tmp_path / "out")
    _, err = process.communicate(timeout=600)
    two_nodes.remove_node(node, allow_graceful=False)
    assert process.returncode == 2 and "backend onnxruntime is onnxruntime 0.9, here it is onnxruntime 1." in err, err
    assert not (tmp_path / "out" / "shards").exists()


def test_a_node_that_is_lost_is_done_without(two_nodes, many, tmp_path):
    node = two_nodes.add_node(num_cpus=1)
    process = start(two_nodes, many / "val2017", tmp_path / "out")
    while len(workers_here()) < 2 and process.poll() is None:
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


def serve_s3(recording: Path) -> subprocess.Popen:
    """A server that answers."""
    server = subprocess.Popen([sys.executable, "tests/s3_server.py", str(S3_PORT), str(recording)], cwd=ROOT,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", S3_PORT)):
            return server
        time.sleep(0.1)
    raise AssertionError(f"tests/s3_server.py ended with {server.returncode}")


def test_a_job_on_a_store_of_s3_that_is_killed(two_nodes, many, tmp_path):
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    pytest.importorskip("moto.server", reason="the S3 server of this test is moto")
    server = serve_s3(tmp_path / "recording")
    try:
        files = fsspec.filesystem("s3")
        files.mkdir("bucket")
        files.put(f"{many / 'val2017'}/", "bucket/photos/", recursive=True)
        job = subprocess.Popen([Path(sys.executable).with_name("ray"), "job", "submit", "--address",
                                f"http://127.0.0.1:{DASHBOARD_PORT}", "--",
                                sys.executable, "predict.py", "s3://bucket/photos", "--distributed", "auto",
                                "--output", "s3://bucket/out", "--shard", "10"], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not files.glob("bucket/out/shards/*") and job.poll() is None:
            time.sleep(0.2)
            files.invalidate_cache()
        server.kill()
        server.wait()
        time.sleep(3)
        server = serve_s3(tmp_path / "recording")
        assert "120 images" in ended(job)
        for name in RESULTS:
            assert files.cat_file(f"bucket/out/{name}") == (many / "alone" / name).read_bytes(), name
    finally:
        server.kill()
        server.wait()
