"""M2AENet in torch: the masked dense and the gathered form, and its checkpoints."""

from m2a.models.config import PRESETS, M2AENetConfig
from m2a.models.network import M2AENet
from m2a.models.restorer import Restoration

__all__ = ["PRESETS", "M2AENet", "M2AENetConfig", "Restoration"]
