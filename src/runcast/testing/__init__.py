"""What third parties test their own seams with: conformance suites, scripted agents, a harness for agents."""

from runcast.testing.agent_suite import AgentSuite as AgentSuite
from runcast.testing.dialect_suite import DialectSuite as DialectSuite
from runcast.testing.local_client import client_of as client_of
from runcast.testing.memory_store import MemoryStore as MemoryStore
from runcast.testing.scripted import Collected as Collected
from runcast.testing.scripted import Pause as Pause
from runcast.testing.scripted import ScriptedAgent as ScriptedAgent
from runcast.testing.scripted import collect as collect
from runcast.testing.scripted import tokens as tokens
from runcast.testing.store_suite import StoreSuite as StoreSuite
