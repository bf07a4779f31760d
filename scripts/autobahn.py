"""Run the Autobahn|Testsuite's fuzzing client against the WebSocket implementation that we serve with.

    python scripts/autobahn.py [--cases '6.*'] [--all] [--keep DIRECTORY]

The suite wants a server that echoes, so it gets one under the same uvicorn configuration as ours (`runcast.server.configuration`);
what our own endpoint does with frames is in tests/integration/test_frames.py. Left out by default: 9 (performance, and messages
larger than we take), 12 and 13 (compression, which is off).

The suite is for Python 2.7 only: $PYTHON27, python2.7 on PATH, or pyenv's. It is installed, pinned (scripts/autobahn.txt), into a
temporary directory that is removed in the end; `--keep` keeps it, and the reports, for the next time.

Ends with 0 if every case passed but those in `KNOWN`, 1 if one failed, 3 if it could not be run; then it says why.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from runcast.server import configuration
from runcast.transports.listener import listen
from runcast.transports.straight import straight_of
from runcast.transports.wire import Receive, Scope, Send

PINS = Path(__file__).with_suffix(".txt")
LEFT_OUT = ["9.*", "12.*", "13.*"]
PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")
"""What a case may be: as the standard says; allowed, but less strict; nothing that can be wrong."""
CLOSED = ("OK", "INFORMATIONAL")
KNOWN = {
    "7.1.5": "a close between the fragments of a message is answered with 1002, not with the code that came: websockets takes "
    "the message that never ends for a protocol error. The connection is closed cleanly either way.",
}
"""What our implementation does otherwise, and why that is good enough; not counted as failed. It is one, 15.0.1 to 17.4."""
NAMES = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and performance",
    "10": "autofragmentation",
    "12": "compression",
    "13": "compression",
}


class CannotRun(Exception):
    pass


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends back what it is sent; text by the short way that our tokens take, where the server offers it."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    straight = straight_of(scope)
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        elif straight is not None and straight.has_room:
            straight.write_text(text.encode())
        else:
            await send({"type": "websocket.send", "text": text})


@contextlib.contextmanager
def echoing(ws: str | None) -> Iterator[int]:
    """The echo, served as ours is: the port. `ws`: with another of uvicorn's implementations, to compare."""
    config = configuration(echo, log_level="critical")
    if ws is not None:
        config.ws = ws  # pyright: ignore[reportAttributeAccessIssue]
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def python27() -> str:
    """
    Raises:
        CannotRun: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [os.environ.get("PYTHON27"), shutil.which("python2.7"), *sorted(pyenv.glob("2.7*/bin/python2.7"))]
    for candidate in candidates:
        if candidate and subprocess.run([str(candidate), "-c", "import ssl"], capture_output=True).returncode == 0:
            return str(candidate)
    raise CannotRun(
        "The Autobahn|Testsuite needs Python 2.7 and there is none: no $PYTHON27, no python2.7 on PATH, none of pyenv's "
        "(pyenv install 2.7.18)."
    )


def installed(python: str, place: Path) -> Path:
    """The directory with the suite.

    Raises:
        CannotRun: it cannot be installed.
    """
    site, stamp = place / "site", place / "installed.txt"
    if stamp.exists() and stamp.read_text() == PINS.read_text():
        return site
    shutil.rmtree(site, ignore_errors=True)
    print("installing the Autobahn|Testsuite (half a minute) …", flush=True)
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--target", str(site), "-r", str(PINS)], capture_output=True, text=True, timeout=600
        )
    except subprocess.TimeoutExpired:
        raise CannotRun("The Autobahn|Testsuite could not be installed within ten minutes.") from None
    if done.returncode:
        why = [line for line in done.stderr.splitlines() if "DEPRECATION" not in line and "WARNING" not in line]
        raise CannotRun(
            "The Autobahn|Testsuite could not be installed; is there a network, and a C compiler with Python 2.7's "
            f"headers? pip says: {' '.join(why[-3:])[:500]}"
        )
    stamp.write_text(PINS.read_text())
    return site


def fuzz(python: str, site: Path, port: int, cases: list[str], left_out: list[str], place: Path) -> dict[str, Any]:
    """The suite's report: `{case: {behavior, behaviorClose, …}}`."""
    reports = place / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": "runcast", "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": left_out,
        "exclude-agent-cases": {},
    }
    (place / "spec.json").write_text(json.dumps(spec))
    run = (
        f"import site, sys; site.addsitedir({str(site)!r}); "
        f"sys.argv = ['wstest', '-m', 'fuzzingclient', '-s', {str(place / 'spec.json')!r}]; "
        "from autobahntestsuite.wstest import run; run()"
    )
    done = subprocess.run(
        [python, "-B", "-c", run], capture_output=True, text=True, timeout=1800, cwd=place, env=_clean_environment()
    )
    index = reports / "index.json"
    if not index.exists():
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise CannotRun(f"The Autobahn|Testsuite ran and reported nothing: {' | '.join(last)[:500]}")
    return json.loads(index.read_text())["runcast"]


def _clean_environment() -> dict[str, str]:
    """Without what is meant for our own Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def told(report: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """A table by section, what deviates as it is known to, and what failed."""
    sections: dict[str, Counter[str]] = {}
    known: list[str] = []
    failed: list[str] = []
    for case in sorted(report, key=lambda name: [int(part) for part in name.split(".")]):
        found = report[case]
        good = found["behavior"] in PASSED and found["behaviorClose"] in CLOSED
        word = found["behavior"].lower() if good else "known" if case in KNOWN else "failed"
        sections.setdefault(case.split(".")[0], Counter())[word] += 1
        if not good:
            line = f"{case}: {found['behavior']}, close {found['behaviorClose']}"
            if case in KNOWN:
                known.append(f"{line}; {KNOWN[case]}")
            else:
                failed.append(line)
    words = ("ok", "non-strict", "informational", "known", "failed")
    lines = ["| section | " + " | ".join(words) + " |", "|---" * (len(words) + 1) + "|"]
    total: Counter[str] = Counter()
    for section, counts in sections.items():
        total += counts
        name = f"{section} {NAMES.get(section, '')}".strip()
        lines.append(f"| {name} | " + " | ".join(str(counts[word]) for word in words) + " |")
    lines.append(f"| all {sum(total.values())} | " + " | ".join(str(total[word]) for word in words) + " |")
    return "\n".join(lines), known, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="*", help="comma-separated, as the suite writes them: '1.*,7.3.1'")
    parser.add_argument("--all", action="store_true", help="also performance and compression")
    parser.add_argument("--ws", help="another of uvicorn's implementations, to compare: websockets, wsproto")
    parser.add_argument("--keep", type=Path, help="a directory for the suite and its reports, to be used again")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if given.keep is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autobahn-")))
        else:
            place = given.keep.resolve()
            place.mkdir(parents=True, exist_ok=True)
        try:
            python = python27()
            site = installed(python, place)
            port = stack.enter_context(echoing(given.ws))
            report = fuzz(python, site, port, given.cases.split(","), [] if given.all else LEFT_OUT, place)
        except CannotRun as error:
            print(f"Not run. {error}", file=sys.stderr)
            return 3
    text, known, failed = told(report)
    pinned = dict(line.split("==") for line in PINS.read_text().split())
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "websockets"))
    implementation = given.ws or "websockets-sansio"
    print(f"Autobahn|Testsuite {pinned['autobahntestsuite']} against {packages} ({implementation})\n\n{text}")
    for line in known:
        print(f"known: {line}")
    for line in failed:
        print(f"failed: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
