"""The transaction that a session is in, from the statements' tags and the server's ReadyForQuery."""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.sqlfacts import COMMIT_AND_CHAIN, ROLLBACK_AND_CHAIN, ROLLBACK_TO
from mirror_audit.audit.statement import OUTCOME_ERROR, OUTCOME_OK, Statement

__all__ = ["FAILED", "IDLE", "IN_BLOCK", "Transactions"]

# The status bytes of ReadyForQuery.
IDLE: Final = 0x49
IN_BLOCK: Final = 0x54
FAILED: Final = 0x45

# What a statement did to its transaction block.
STAYS: Final = 0
COMMITS: Final = 1
ROLLS_BACK: Final = 2
PREPARES: Final = 3


class Transactions:
    """Numbers the transactions of a session and knows whether one is open."""

    def __init__(self) -> None:
        self.status: i64 = 0  # the last known status byte, 0: none
        self.number: i64 = 0
        self.running: bool = False
        self.block: bool = False
        self.implicit: bool = False  # the block was begun by no statement
        self.doubtful: bool = False  # the block may have ended, and another begun, out of sight
        self.statements: i64 = 0
        self.start: i64 = 0

    def begin(self) -> None:
        """A statement starts a transaction, its own or a block's."""
        self.running = True
        self.number += 1
        self.statements = 0

    def open_block(self, time: i64) -> None:
        """A transaction block began at `time` (us)."""
        if not self.running:
            self.begin()
        if not self.block:
            self.block = True
            self.implicit = False
            self.start = time

    def end(self) -> None:
        """The transaction is over."""
        self.running = False
        self.block = False
        self.doubtful = False

    def after(self, statement: Statement, status: i64) -> i64:
        """The status that a statement leaves, as far as its outcome and tag tell; `status` was before."""
        self.statements += 1
        if statement.outcome == OUTCOME_ERROR:
            return FAILED if status == IN_BLOCK or status == FAILED else status
        if statement.outcome != OUTCOME_OK:
            return status
        tag = statement.tag
        if tag == b"BEGIN" or tag == b"START TRANSACTION":
            return IN_BLOCK
        if self.ending(statement) == STAYS:
            # In a failed block, only going back to a savepoint succeeds.
            return IN_BLOCK if status == FAILED and tag == b"ROLLBACK" else status
        return IN_BLOCK if self.chains(statement) else IDLE

    def ending(self, statement: Statement) -> i64:
        """COMMITS, ROLLS_BACK, PREPARES or STAYS. COMMIT of a failed block has the tag ROLLBACK."""
        if statement.outcome != OUTCOME_OK:
            return STAYS
        tag = statement.tag
        if tag == b"COMMIT":
            return COMMITS
        if tag == b"PREPARE TRANSACTION":
            return PREPARES
        if tag == b"ROLLBACK":
            analysis = statement.analysis
            # Without its text it may have been ROLLBACK TO; then the next ReadyForQuery decides.
            if analysis is not None and analysis.effect != ROLLBACK_TO and not statement.text_cut:
                return ROLLS_BACK
        return STAYS

    def chains(self, statement: Statement) -> bool:
        """True for COMMIT AND CHAIN and ROLLBACK AND CHAIN."""
        analysis = statement.analysis
        return analysis is not None and (
            analysis.effect == COMMIT_AND_CHAIN or analysis.effect == ROLLBACK_AND_CHAIN
        )
