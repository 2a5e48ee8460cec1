"""The feature store: builds, histories, and Feast's own ways beside."""

from benchmarks.results_page.files import read, source
from benchmarks.results_page.table import Row, Subject, number, times

SIZES = {"1e+06": "1 M", "1e+07": "10 M", "1e+08": "100 M"}
STORES = ("sqlite", "sqlite in memory", "redis everysec", "redis always")


def build() -> Subject:
    """All tables and every history, by DuckDB and by Spark."""
    record = read("features")
    rows = []
    for size, label in SIZES.items():
        own = record[f"build {size}"]["result"]
        spark = record.get(f"spark {size}")
        rows.append(
            Row(
                f"seconds to build all tables, {label} interactions",
                number(own["build_s"]),
                source(record[f"build {size}"]),
                f"Spark in local mode {number(spark['result']['build_s'])}" if spark else "",
                times(spark["result"]["build_s"] / own["build_s"]) if spark else "",
            )
        )
        if own["materialize_s"] is not None:
            rows.append(
                Row(
                    f"seconds to load the online store, {label} (Feast's own)",
                    number(own["materialize_s"]),
                    source(record[f"build {size}"]),
                )
            )
        rows.append(
            Row(
                f"seconds to build and extract every history, {label} (peak memory, GiB)",
                f"{number(own['build_and_extract_s'])} ({number(own['peak_memory_gib'])})",
                source(record[f"build {size}"]),
            )
        )
    cut = record["offline stores"]["result"]
    rows.append(
        Row(
            f"seconds for one cut, 1 M interactions, {cut['asked_rows']:,} users",
            number(cut["duckdb"]["seconds"]),
            source(record["offline stores"]),
            f"Feast's default offline store {number(cut['default']['seconds'])}",
            times(cut["default"]["seconds"] / cut["duckdb"]["seconds"]),
        )
    )
    return Subject(
        "Features: tables and histories",
        "Two cores, 23 GiB of memory, simulated interactions over 60 days, 100 a user, 50,000 "
        "items; four tables at two "
        "cuts and at the end. Spark's time includes Java's start.",
        rows,
    )


def histories() -> Subject:
    """The online history of each store."""
    record = read("features")
    rows = []
    for store in STORES:
        part = record[f"history {store}"]
        for key in ("1_processes", "4_processes"):
            case = part["result"][key]
            who = f"{store}, {key[0]} process{'es' if key[0] != '1' else ''}"
            for name, label in (
                ("append_ms", "append"),
                ("latest_200_ms", "read of the newest 200"),
            ):
                rows.append(
                    Row(
                        f"ms, {label}, p50 / p99, {who}",
                        f"{number(case[name]['p50'])} / {number(case[name]['p99'])}",
                        source(part),
                    )
                )
        case = part["result"]["4_processes"]
        rows += [
            Row(
                f"events lost or repeated, 4 processes × 1,000 appends, {store}",
                str(case["lost"] + case["repeated"]),
                source(part),
            ),
            Row(
                f"ms from an append here to a read there, p99, {store}",
                number(part["result"]["freshness_ms"]["p99"]),
                source(part),
            ),
        ]
    push = record["plain feast push"]
    case = push["result"]["4_processes"]
    rows.append(
        Row(
            "events lost, 4 processes × 200 appends",
            "see above",
            source(push),
            f"Feast's push after reading {case['lost']} of {case['appended']}",
        )
    )
    disk = record["disk"]
    rows.append(
        Row(
            "ms, the disk alone: 4 KiB and fdatasync, p99",
            number(disk["result"]["p99"]),
            source(disk),
        )
    )
    return Subject(
        "Features: online histories",
        "1,000 appends by each process to the same 50 users; reads of 200 out of 1,000 events; a "
        "disk that others used. "
        "`redis everysec` is Redis' append-only file as shipped, `redis always` waits for the disk "
        "at each append.",
        rows,
        notes="A durable append to SQLite is one wait for the disk: what is the store's own stands "
        "under `sqlite in memory`.",
    )
