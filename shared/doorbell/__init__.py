"""The doorbell: a message that says "look" and carries only a job's id.

No job's fate depends on it. The database holds the queue; a message lost, repeated or late costs
time only, because the keeper rings again for whatever stays queued.
"""

from shared.doorbell.broker import Ring
from shared.doorbell.doorbell import Doorbell

__all__ = ["Doorbell", "Ring"]
