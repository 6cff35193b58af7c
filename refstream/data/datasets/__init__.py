"""Training datasets: everything yields ``ClipSample``."""

from refstream.data.datasets.minirvos import MiniRVOSClips, MiniRVOSObjects, MiniRVOSStills

__all__ = ["MiniRVOSClips", "MiniRVOSObjects", "MiniRVOSStills"]
