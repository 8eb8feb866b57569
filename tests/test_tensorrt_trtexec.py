"""What is read from logs and exported JSON of trtexec, of several releases.

The logs below are written after the grammar of trtexec's sources, not by a trtexec.
"""
from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import done, one_error

from backends.tensorrt.trtexec import percentile, read_log, read_times
from contract.errors import UserError


def times(label: str, median: float, last: str = "percentile(99%) = 16.5 ms") -> str:
    return f"{label}: min = 14.9 ms, max = 17.25 ms, mean = 15.3 ms, median = {median} ms, {last}"


def log(version: int, *messages: str, end: str = "PASSED", command: str = "trtexec --shapes=image:16x3x256x192") -> str:
    """What a run of trtexec prints; each message may begin with its level, such as W|."""
    lines = [f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # {command}"]
    for message in messages:
        level, text = message.split("|", 1) if message[1:2] == "|" else ("I", message)
        lines.append(f"[11/21/2026-10:11:12] [{level}] {text}")
    return "\n".join([*lines, f"&&&& {end} TensorRT.trtexec [TensorRT v{version}] # {command}"]) + "\n"


NEW_TAIL = "percentile(90%) = 15.9 ms, percentile(95%) = 16.1 ms, percentile(99%) = 16.5 ms"
SUMMARY = ("=== Performance summary ===", "Throughput: 65.5 qps")
LOGS = {
    "8.0.1": log(8001, "Engine built in 41.3 sec.", *SUMMARY, times("Latency", 15.31), times("Enqueue Time", 0.9),
                 times("End-to-End Host Latency", 30.2), times("H2D Latency", 0.8), times("GPU Compute Time", 15.25),
                 times("D2H Latency", 0.3), "Total Host Walltime: 3.02 s", "Total GPU Compute Time: 3.01 s"),
    "8.6.1": log(8601, "TensorRT version: 8.6.1", "[TRT] Loaded engine size: 80 MiB", "Engine built in 41.3 sec.",
                 "Created engine with size: 79.5 MiB", "Timing trace has 660 queries over 10.07 s",
                 "Average on 10 runs - GPU latency: 99 ms - Host latency: 99 ms (enqueue 99 ms)", *SUMMARY,
                 times("Latency", 15.31, NEW_TAIL), times("H2D Latency", 0, NEW_TAIL),
                 times("GPU Compute Time", 15.25, NEW_TAIL), "Total Host Walltime: 10.07 s",
                 "W|* GPU compute time is unstable, with coefficient of variance = 3.1%.",
                 "W|  If not already in use, locking GPU clock frequency may help."),
    "10.3.0": log(100300, *SUMMARY, times("Latency", 15.31, NEW_TAIL), times("GPU Compute Time", 15.25, NEW_TAIL),
                  "W|* Throughput may be bound by Enqueue Time rather than GPU Compute and the GPU may be idle.",
                  "W|* GPU compute time is unstable, with coefficient of variance = 3.1%."),
    "11.4.0": log(110400, "W|--useCudaGraph is the default", *SUMMARY, times("Latency", 15.31, NEW_TAIL),
                  times("GPU Compute Time", 15.25, "percentile(50%) = inf ms, percentile(99%) = 1.65e+01 ms")),
}


@pytest.mark.parametrize("version", LOGS)
def test_a_log_becomes_a_row(main, tmp_path, version):
    (tmp_path / "run.log").write_text(LOGS[version])
    row = done(main("backends.tensorrt.trtexec", tmp_path / "run.log")).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:7] == ["run.log", version, "16", "1048.0", "15.310", "15.250", "16.500"]  # 65.5 queries of 16 people
    assert cells[7].count("unstable") == LOGS[version].count("unstable")


def test_the_whole_log_is_read():
    seen = read_log(LOGS["8.6.1"])
    assert seen.facts == {"qps": 65.5, "queries": 660, "host_s": 10.07, "build_s": 41.3, "engine_mib": 79.5}
    assert seen.times["Latency"] == {"min": 14.9, "max": 17.25, "mean": 15.3, "median": 15.31, "percentile(90%)": 15.9,
                                     "percentile(95%)": 16.1, "percentile(99%)": 16.5}
    assert set(read_log(LOGS["8.0.1"]).times) == {"Latency", "End-to-End Host Latency", "Enqueue Time", "H2D Latency",
                                                  "GPU Compute Time", "D2H Latency"}
    assert len(read_log(LOGS["10.3.0"]).warnings) == 2


@pytest.mark.parametrize("text, hint", [
    (log(100300, "E|[TRT] Error Code 4: Internal Error", *SUMMARY, end="FAILED"), "Error Code 4"),
    (LOGS["8.6.1"].rsplit("&&&& PASSED", 1)[0], "did not print PASSED"),
    (LOGS["8.6.1"] + log(8601, "E|[TRT] of the second run", end="FAILED"), "of the second run"),
    (LOGS["8.6.1"].replace("&&&& PASSED", "Passed") + LOGS["8.6.1"], "did not print PASSED"),
    (log(8601, "Engine built in 3 sec."), "--skipInference"),
    (log(8601, *SUMMARY, command="trtexec --onnx=m_bs16.onnx"), "--batch"), ("", "did not print PASSED")])
def test_a_log_that_tells_no_speed(main, tmp_path, text, hint):
    (tmp_path / "run.log").write_text(text)
    assert hint in one_error(main("backends.tensorrt.trtexec", tmp_path / "run.log"))


def test_each_run_of_a_log_is_a_row(main, tmp_path):
    """Sweeps are run as trtexec ... >> log."""
    sweep = "".join(log(100200, f"Throughput: {qps} qps", command=f"trtexec --loadEngine=m --shapes=image:{batch}x3x9")
                    for batch, qps in ((16, 130.0), (1, 900.0)))
    (tmp_path / "both.log").write_text(sweep)
    rows = done(main("backends.tensorrt.trtexec", tmp_path / "both.log")).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[2:4] for row in cells] == [["16", "2080.0"], ["1", "900.0"]]
    for option in (["--times", "t.json"], ["--output", "o.json", "--dump", "d.bin"]):
        assert "holds 2 runs" in one_error(main("backends.tensorrt.trtexec", tmp_path / "both.log", *option))
    (tmp_path / "both.log").write_text(sweep.replace("&&&& RUNNING", "RUNNING"))
    assert "beginnings are lost" in one_error(main("backends.tensorrt.trtexec", tmp_path / "both.log"))


@pytest.mark.parametrize("content", [
    "3", "{}", "[]", "[3]", "null", '[{"latencyMs": 1}]', '[{"latencyMs": 1, "computeMs": "1"}]',
    '[{"latencyMs": 1, "computeMs": NaN}]', '[{"latencyMs": 1, "computeMs": -1}]', "[" * 9999, b"\xff\xfe\x00",
    '[{"latencyMs": 1, "computeMs": %s}]' % (400 * "9"), '[{"latencyMs": 1, "computeMs": [1]}]'])
def test_times_of_another_shape_are_one_line(main, tmp_path, content):
    path = tmp_path / "times.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "run.log").write_text(LOGS["8.6.1"])
    assert str(path) in one_error(main("backends.tensorrt.trtexec", tmp_path / "run.log", "--times", path))


def test_an_implicit_batch_is_not_multiplied_again(main, tmp_path):
    """trtexec's report multiplies by its --batch itself: 2080 qps of 16 are 130 batches."""
    path = tmp_path / "run.log"
    path.write_text(log(8601, "Throughput: 2080 qps", command="trtexec --deploy=m.prototxt --output=o --batch=16"))
    for option in ([], ["--batch", 16]):
        row = done(main("backends.tensorrt.trtexec", path, *option)).splitlines()[-1]
        assert [cell.strip() for cell in row.split("|")[3:5]] == ["16", "2080.0"]
    assert "batch 16" in one_error(main("backends.tensorrt.trtexec", path, "--batch", 8))
    path.write_text(log(8601, "Throughput: 2080 qps", command="trtexec --shapes=image:16x3x256x192 --batch=16"))
    assert "--shapes alone" in one_error(main("backends.tensorrt.trtexec", path))


def test_a_batch_that_is_not_the_logs(main, tmp_path):
    (tmp_path / "run.log").write_text(LOGS["8.6.1"])
    assert "batch 16" in one_error(main("backends.tensorrt.trtexec", tmp_path / "run.log", "--batch", 8))


@pytest.mark.parametrize("line", [
    "Throughput: nan qps", "Throughput: -1 qps", "Throughput: 1-2e qps", "Latency: min = -1 ms, median = 2 ms",
    "GPU Compute Time: median = nan ms", "GPU Compute Time: median = 1.2.3 ms"])
def test_times_that_are_none(main, tmp_path, line):
    (tmp_path / "run.log").write_text(log(100300, line))
    assert "which cannot have been measured" in one_error(main("backends.tensorrt.trtexec", tmp_path / "run.log"))


def test_a_log_of_windows_powershell(main, tmp_path):
    (tmp_path / "run.log").write_bytes(LOGS["8.6.1"].replace("\n", "\r\n").encode("utf-16"))
    assert "1048.0" in done(main("backends.tensorrt.trtexec", tmp_path / "run.log"))


OLD = """&&&& RUNNING TensorRT.trtexec # trtexec --loadEngine=pose.engine --shapes=input:16x3x256x192
[04/12/2021-10:00:13] [I] Timing trace has 0 queries over 3.02 s
[04/12/2021-10:00:13] [I] Average on 10 runs - GPU latency: 99 ms - Host latency: 99 ms (end to end 99 ms, enqueue 9 ms)
[04/12/2021-10:00:13] [I] Host Latency
[04/12/2021-10:00:13] [I] min: 14.9 ms (end to end 29.1 ms)
[04/12/2021-10:00:13] [I] median: 15.31 ms (end to end 30.2 ms)
[04/12/2021-10:00:13] [I] percentile: 16.9 ms at 99% (end to end 33 ms at 99%)
[04/12/2021-10:00:13] [I] throughput: 65.5 qps
[04/12/2021-10:00:13] [I] walltime: 3.02 s
[04/12/2021-10:00:13] [I] Enqueue Time
[04/12/2021-10:00:13] [I] median: 0.9 ms
[04/12/2021-10:00:13] [I] GPU Compute
[04/12/2021-10:00:13] [I] median: 15.25 ms
[04/12/2021-10:00:13] [I] percentile: 16.5 ms at 99%
[04/12/2021-10:00:13] [I] total compute time: 3.01 s
&&&& PASSED TensorRT.trtexec # trtexec --loadEngine=pose.engine --shapes=input:16x3x256x192
"""


def test_a_log_of_tensorrt_7(main, tmp_path):
    """One number a line, under a title; no version in the first line."""
    (tmp_path / "run.log").write_text(OLD)
    row = done(main("backends.tensorrt.trtexec", tmp_path / "run.log")).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:7] == ["run.log", "", "16", "1048.0", "15.310", "15.250", "16.500"]


def test_a_log_is_read_in_linear_time():
    """Two megabytes, which quadratic expressions take hours for."""
    for line in ("a" * 2_000_000, "--shapes=" * 200_000, "Latency: " + "min = " * 300_000):
        read_log(f"&&&& RUNNING TensorRT.trtexec # {line}\n[11/21/2026-10:11:12] [I] {line}\n")


def test_a_log_that_is_not_there(main, tmp_path):
    assert "no such trtexec log" in one_error(main("backends.tensorrt.trtexec", tmp_path / "run.log"))


def test_exported_times_replace_those_of_the_log(main, tmp_path):
    (tmp_path / "run.log").write_text(LOGS["10.3.0"])
    queries = [{"latencyMs": 2.0 * value, "computeMs": value, "h2dMs": 0} for value in (4.0, 1.0, 3.0, 2.0)]
    (tmp_path / "times.json").write_text(json.dumps(queries))
    row = done(main("backends.tensorrt.trtexec", tmp_path / "run.log", "--times",
                    tmp_path / "times.json")).splitlines()[-1]
    assert "| 5.000 | 2.500 | 4.000 |" in row


@pytest.mark.parametrize("content", [
    '[{"latencyMs": NaN, "computeMs": 1}]', '[{"latencyMs": -1, "computeMs": 1}]', "{}", "[]", "[{}]", "[[1]]",
    "not JSON"])
def test_times_that_trtexec_did_not_export(tmp_path, content):
    (tmp_path / "times.json").write_text(content)
    with pytest.raises(UserError):
        read_times(tmp_path / "times.json")


def test_percentiles_are_those_of_trtexec():
    """Of 1 to 100, the index is 99 - int((1 - p / 100) * 100), which binary fractions shift at times."""
    values = np.random.default_rng(0).permutation(np.arange(1, 101)).tolist()
    assert [percentile(values, percent) for percent in (50, 90, 100)] == [50, 91, 100]
    assert percentile([7.0], 99) == 7 and percentile([1.0, 2.0], 0) == 1


def test_an_exported_output_becomes_a_dump(main, tmp_path):
    (tmp_path / "run.log").write_text(LOGS["8.6.1"])
    heatmaps = np.random.default_rng(0).standard_normal((2, 17, 4, 3)).astype(np.float32)
    tensor = {"name": "output", "dimensions": "2x17x4x3", "values": heatmaps.ravel().tolist()}
    (tmp_path / "output.json").write_text(json.dumps([tensor]))
    dump = tmp_path / "dumps" / "000000000000_0.bin"
    done(main("backends.tensorrt.trtexec", tmp_path / "run.log", "--output", tmp_path / "output.json", "--dump", dump))
    assert dump.read_bytes() == heatmaps.tobytes()
    (tmp_path / "output.json").write_text(json.dumps([{**tensor, "dimensions": "3x17x4x3"}]))
    assert "--exportOutput" in one_error(main("backends.tensorrt.trtexec", tmp_path / "run.log", "--output",
                                              tmp_path / "output.json", "--dump", dump))
