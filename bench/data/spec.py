"""What is known of a dataset before a file of it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.core.config import Protocol
from bench.data.table import Kind, Table

Reader = Callable[[Path, Protocol], Table]


@dataclass(frozen=True)
class Download:
    """One file that a provider serves.

    Attributes:
        checksum: "md5:HEX" or "sha256:HEX" as the provider publishes it, "" where none is known.
        size: bytes, 0 where unknown or already told by the checksum.
        unpack: whether the file is an archive to be unpacked beside it.
    """

    address: str
    filename: str
    checksum: str = ""
    size: int = 0
    unpack: bool = False

    @property
    def verified(self) -> bool:
        """Whether what comes can be told from something else; a size alone cannot."""
        return bool(self.checksum)


@dataclass(frozen=True)
class DatasetSpec:
    """A registered dataset.

    Attributes:
        reader: (folder or file, protocol) -> table; the path means nothing to a dataset that is drawn.
        hint: the command or the steps that bring the dataset, for messages.
        downloads: what `bench data fetch` brings; empty where the provider asks for an account.
        verified: whether addresses and checksums were tried against the provider.
        reading: how the paper's use of it is read, with the row of the reading.
        embedded: needs no file: always available.
        groups: what a group is here.
        same_files_as: the dataset whose files this one reads in another way.
        caution: why its results must not be believed; such a dataset is no part of `all`, and its rows carry the words.
    """

    name: str
    title: str
    summary: str
    reader: Reader
    paper_name: str = ""
    licence: str = "unknown"
    citation: str = ""
    address: str = ""
    hint: str = ""
    kind: Kind = "other"
    synthetic: bool = False
    embedded: bool = False
    downloads: tuple[Download, ...] = ()
    verified: bool = False
    reading: str = ""
    groups: str = ""
    same_files_as: str = ""
    caution: str = ""
