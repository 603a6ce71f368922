"""Conversations of pgjdbc, through java/Shop.java; they need javac, and Maven to fetch the driver once."""

import os
import shutil
import subprocess
from pathlib import Path

from samples.place import Place, conversation

__all__: list[str] = []

DRIVER = "org.postgresql:postgresql:42.7.4"
SOURCE = Path(__file__).parent / "java" / "Shop.java"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mirror_audit" / DRIVER.replace(":", "-")


def _needs(_: Place) -> str | None:
    for name in ("java", "javac"):
        if shutil.which(name) is None:
            return f"no program {name}"
    return _classpath()[0]


def _classpath() -> tuple[str | None, str]:
    """(why not, class path): the driver fetched and the program compiled, once for all."""
    cache = _cache()
    jar = cache / f"{DRIVER.split(':')[1]}-{DRIVER.split(':')[2]}.jar"
    if not jar.exists():
        if shutil.which("mvn") is None:
            return "no program mvn to fetch pgjdbc with", ""
        cache.mkdir(parents=True, exist_ok=True)
        copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={DRIVER}", f"-DoutputDirectory={cache}"]
        done = subprocess.run(copy, capture_output=True, text=True, check=False, timeout=300, cwd=cache)
        if done.returncode or not jar.exists():
            return f"Maven cannot fetch {DRIVER}", ""
    compiled = cache / "Shop.class"
    if not compiled.exists() or compiled.stat().st_mtime < SOURCE.stat().st_mtime:
        command = ["javac", "-cp", str(jar), "-d", str(cache), str(SOURCE)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return None, f"{jar}{os.pathsep}{cache}"


def _java(place: Place, what: str, **properties: str) -> None:
    words = {"ApplicationName": "shop-java", "sslmode": "disable", "gssEncMode": "disable"} | properties
    url = f"jdbc:postgresql://{place.server.host}:{place.port}/shop?"
    url += "&".join(f"{key}={value}" for key, value in words.items())
    command = [
        "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Duser.timezone=UTC",
        "-cp",
        _classpath()[1],
    ]
    command += ["Shop", url, "app", place.password("app") or "", what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"java: {done.stderr}")


@conversation(needs=_needs)
def jdbc_statements(place: Place) -> None:
    """pgjdbc: parameters of many types, a statement that becomes a named one, portals with a fetch size."""
    _java(place, "statements", prepareThreshold="3")


@conversation(needs=_needs)
def jdbc_batch(place: Place) -> None:
    """pgjdbc: batches of inserts (plain, with an error, with generated keys), transactions, savepoints."""
    _java(place, "batch")


@conversation(needs=_needs)
def jdbc_batch_rewritten(place: Place) -> None:
    """pgjdbc: batches with reWriteBatchedInserts: many rows in one INSERT."""
    _java(place, "batch", reWriteBatchedInserts="true")


@conversation(needs=_needs)
def jdbc_simple(place: Place) -> None:
    """pgjdbc with preferQueryMode=simple: parameters written into the text of simple queries."""
    _java(place, "statements", preferQueryMode="simple")


@conversation(needs=_needs)
def jdbc_large_object(place: Place) -> None:
    """pgjdbc: large objects, which go through the protocol's FunctionCall; COPY by CopyManager."""
    _java(place, "large_object")
