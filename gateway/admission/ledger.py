"""What is counted of callers and promised to them, in SQLite: in memory, or in a file that processes share.

Each method is one transaction, so that a limit holds across processes. A process that is killed leaves its
generations behind; they are forgotten by the next one that meets a limit because of them.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.admission import process
from gateway.admission.bucket import Bucket
from gateway.security.principal import Rate

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS bucket (
    subject TEXT, what TEXT, seconds REAL, level REAL, at REAL, PRIMARY KEY (subject, what, seconds)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS running (id INTEGER PRIMARY KEY, subject TEXT, process TEXT);
CREATE INDEX IF NOT EXISTS running_subject ON running (subject);
CREATE TABLE IF NOT EXISTS appointment (id INTEGER PRIMARY KEY, request BLOB, pool TEXT, at REAL);
CREATE INDEX IF NOT EXISTS appointment_request ON appointment (request, pool, at);
CREATE INDEX IF NOT EXISTS appointment_pool ON appointment (pool, at);
"""


@dataclass(frozen=True, slots=True)
class Draw:
    """So much of something that a rate bounds."""

    what: str
    """``requests`` or ``tokens``."""
    rate: Rate
    amount: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A limit that a caller has reached."""

    what: str
    """``requests``, ``tokens`` or ``concurrent``."""
    rate: Rate | None
    wait: float | None
    """Seconds until there is room; ``None``: that isn't known."""


class Ledger:
    """Counts for one machine.

    Args:
        file: Path of the file; empty for this process's memory.
        clock: Seconds since the epoch, the same for all processes.

    Raises:
        OSError: The file can't be used.
    """

    def __init__(self, file: str = "", clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._process = process.own()
        # SQLite polls for its lock; this one is waited for without a pause.
        self._lock = Path(f"{file}.lock").open("a") if file else None  # noqa: SIM115  # as long as we live
        try:
            self._database = sqlite3.connect(file or ":memory:", isolation_level=None, timeout=5.0)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = OFF")  # a power cut may forget what was counted
            with self._locked():
                self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise OSError(f"can't use {file}: {error}") from error

    def close(self) -> None:
        """Lets go of the file, and of what this process has running."""
        with self._transaction():
            self._database.execute("DELETE FROM running WHERE process = ?", (self._process,))
        self._database.close()
        if self._lock:
            self._lock.close()

    def begin(self, subject: str, draws: Sequence[Draw], concurrent: int | None) -> int | list[Refused]:
        """Takes all or nothing for a generation that is about to begin.

        Args:
            subject: Who is to be charged.
            draws: What it takes of each rate.
            concurrent: How many generations may be under way; ``None`` for any number.

        Returns:
            A number for :meth:`end`; or the limits that stand against it.
        """
        with self._transaction():
            buckets = [self._bucket(subject, draw) for draw in draws]
            refused = [
                Refused(draw.what, draw.rate, bucket.wait(draw.amount))
                for draw, bucket in zip(draws, buckets, strict=True)
                if bucket.wait(draw.amount) > 0
            ]
            if concurrent is not None and self._count(subject) >= concurrent:
                refused.append(Refused("concurrent", None, None))
            if refused:
                return refused
            for draw, bucket in zip(draws, buckets, strict=True):
                self._write(subject, draw, bucket.taken(draw.amount))
            cursor = self._database.execute(
                "INSERT INTO running (subject, process) VALUES (?, ?)", (subject, self._process)
            )
            return cursor.lastrowid or 0

    def end(self, number: int, subject: str, returned: Sequence[Draw]) -> None:
        """A generation is over; what it took and didn't use is given back, or the rest is taken too."""
        with self._transaction():
            self._database.execute("DELETE FROM running WHERE id = ?", (number,))
            for draw in returned:
                self._write(subject, draw, self._bucket(subject, draw).taken(-draw.amount))

    def appoint(self, request: bytes, pool: str, earliest: float, spacing: float, latest: float) -> float:
        """Promises a request a time behind all others' of the pool; its former one if it has one.

        Args:
            request: Names the request.
            pool: What it waits for.
            earliest: Seconds from now before which it is of no use.
            spacing: Seconds between two appointments.
            latest: Seconds from now after which nothing is promised.

        Returns:
            Seconds from now, promised if that isn't after ``latest``.
        """
        now = self._clock()
        with self._transaction():
            held = self._database.execute(
                "SELECT min(at) FROM appointment INDEXED BY appointment_request "
                "WHERE request = ? AND pool = ? AND at > ?",
                (request, pool, now),
            ).fetchone()
            if held[0] is not None:
                return float(held[0]) - now
            last = self._database.execute(
                "SELECT max(at) FROM appointment INDEXED BY appointment_pool WHERE pool = ?", (pool,)
            ).fetchone()
            at = max(now + earliest, (last[0] or 0.0) + spacing)
            if at <= now + latest:
                self._database.execute(
                    "INSERT INTO appointment (request, pool, at) VALUES (?, ?, ?)", (request, pool, at)
                )
            return at - now

    def lapse(self, pool: str, grace: float) -> int:
        """Drops the appointments of a pool that nobody came to, so many seconds late; how many there were."""
        late = self._clock() - grace
        row = self._database.execute(
            "SELECT 1 FROM appointment INDEXED BY appointment_pool WHERE pool = ? AND at < ? LIMIT 1",
            (pool, late),
        ).fetchone()
        if row is None:
            return 0
        with self._transaction():
            return self._database.execute(
                "DELETE FROM appointment WHERE pool = ? AND at < ?", (pool, late)
            ).rowcount

    def redeem(self, request: bytes, pool: str) -> bool:
        """Whether a request has an appointment now, which is then used up."""
        now = self._clock()
        with self._transaction():
            cursor = self._database.execute(
                "DELETE FROM appointment WHERE id = (SELECT id FROM appointment "
                "INDEXED BY appointment_request "
                "WHERE request = ? AND pool = ? AND at <= ? ORDER BY at LIMIT 1)",
                (request, pool, now + _EARLY_SECONDS),
            )
            return cursor.rowcount > 0

    def awaited(self, pool: str, within: float) -> int:
        """How many appointments of a pool there are from now on, and within so many seconds."""
        row = self._database.execute(
            "SELECT count(*) FROM appointment WHERE pool = ? AND at <= ?", (pool, self._clock() + within)
        ).fetchone()
        return int(row[0])

    def _bucket(self, subject: str, draw: Draw) -> Bucket:
        now = self._clock()
        row = self._database.execute(
            "SELECT level, at FROM bucket WHERE subject = ? AND what = ? AND seconds = ?",
            (subject, draw.what, draw.rate.seconds),
        ).fetchone()
        return Bucket(draw.rate, *row).filled(now) if row else Bucket.full(draw.rate, now)

    def _write(self, subject: str, draw: Draw, bucket: Bucket) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO bucket VALUES (?, ?, ?, ?, ?)",
            (subject, draw.what, draw.rate.seconds, bucket.level, bucket.at),
        )

    def _count(self, subject: str) -> int:
        """Generations of a subject that are under way, in processes that live."""
        rows = self._database.execute(
            "SELECT process, count(*) FROM running WHERE subject = ? GROUP BY process", (subject,)
        ).fetchall()
        living = {name: number for name, number in rows if name == self._process or process.lives(name)}
        for name, _ in rows:
            if name not in living:
                self._database.execute("DELETE FROM running WHERE process = ?", (name,))
        return sum(living.values())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._locked():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


_EARLY_SECONDS: Final = 0.05
"""How much too early one may come to an appointment: clocks differ, and delays are rounded."""
