"""Training datasets: everything yields ``ClipSample``."""

from refstream.data.datasets.llava import LLaVADataset
from refstream.data.datasets.mevis import MeViSDataset
from refstream.data.datasets.minirvos import MiniRVOSClips, MiniRVOSObjects, MiniRVOSStills
from refstream.data.datasets.ref_sav import RefSAVDataset
from refstream.data.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from refstream.data.datasets.refcoco import RefCOCODataset
from refstream.data.datasets.revos import ReVOSDataset

__all__ = [
    "LLaVADataset",
    "MeViSDataset",
    "MiniRVOSClips",
    "MiniRVOSObjects",
    "MiniRVOSStills",
    "ReVOSDataset",
    "RefCOCODataset",
    "RefSAVDataset",
    "RefYouTubeVOSDataset",
]
