"""Where the two halves of a live run are joined when they are two processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.sinks.folder import ResultsFolder

if TYPE_CHECKING:
    from pipeline.transport.keys import ReceiverKeys, SenderKeys
    from pipeline.transport.zmq_link import ReceivingLink, SendingLink

SPOOL_MB = 1000


@dataclass(frozen=True, slots=True)
class SendTo:
    """Another process identifies, and this one sends it tracklets.

    Attributes:
        endpoint: Where it listens, tcp://HOST:PORT or ipc://PATH.
        sender: Our name there; with keys the name of our key.
        keys: Ours and its; None sends plain text.
        insecure: Whether plain text may leave this machine.
        spool_mb: Most megabytes that wait on our disk.
    """

    endpoint: str
    sender: str
    keys: SenderKeys | None = None
    insecure: bool = False
    spool_mb: int = SPOOL_MB

    def check(self) -> None:
        """Refuse what cannot be used, before models are loaded and files are made.

        Raises:
            ConfigError: The address or the name is none, or plain text would leave this machine.
        """
        from pipeline.transport.keys import check_endpoint
        from pipeline.transport.zmq_link import check_name

        check_name(self.sender)
        check_endpoint(self.endpoint, has_keys=self.keys is not None, insecure=self.insecure)

    def open(self, folder: ResultsFolder) -> SendingLink:
        """Return the link, which sends at once what an earlier run has left.

        Raises:
            LinkError: The spool cannot be used, or another process has it.
        """
        from pipeline.transport.spool import Spool
        from pipeline.transport.zmq_link import SendingLink

        return SendingLink(
            self.endpoint,
            Spool(folder.path / "link.spool", max_bytes=self.spool_mb * 1_000_000),
            sender=self.sender,
            keys=self.keys,
            insecure=self.insecure,
        )


@dataclass(frozen=True, slots=True)
class ListenAt:
    """Other processes perceive, and this one takes their tracklets.

    Attributes:
        endpoint: Where to listen, tcp://ADDRESS:PORT or ipc://PATH; port * takes a free one.
        keys: Ours and the allowed senders'; None takes plain text.
        insecure: Whether plain text may come from other machines.
    """

    endpoint: str
    keys: ReceiverKeys | None = None
    insecure: bool = False

    def check(self) -> None:
        """Refuse what cannot be used, before models are loaded and files are made.

        Raises:
            ConfigError: The address is none, or plain text would cross machines.
        """
        from pipeline.transport.keys import check_endpoint

        check_endpoint(self.endpoint, has_keys=self.keys is not None, insecure=self.insecure)

    def open(self, folder: ResultsFolder) -> ReceivingLink:
        """Return the link, which goes on where an earlier run has ended.

        Raises:
            LinkError: The address is taken, or the marks cannot be read or are in use.
        """
        from pipeline.transport.zmq_link import ReceivingLink

        return ReceivingLink(
            self.endpoint, folder.path / "link.marks", keys=self.keys, insecure=self.insecure
        )
