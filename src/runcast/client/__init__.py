"""Talk to a Runcast server from Python: `connect` for asyncio, `runcast.client.sync.connect` for everything else."""

from runcast.client.client import Client, SentRun, connect
from runcast.client.refusals import LogChanged, Refusal, Unreachable
from runcast.client.upload import UploadedFile

__all__ = ["Client", "LogChanged", "Refusal", "SentRun", "Unreachable", "UploadedFile", "connect"]
