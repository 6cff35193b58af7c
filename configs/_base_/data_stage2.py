"""Videos: clips with one expression, in the shares of the release's own mixture."""

_clip = dict(
    num_frames=5,  # paper
    sampling="random_sorted",  # release
    expressions=1,  # release
)
_videos = "data/video_datas"
_sources = [
    dict(name="mevis", dataset=dict(type="MeViSDataset", root=f"{_videos}/mevis/train", **_clip), repeats=4),
    dict(name="revos", dataset=dict(type="ReVOSDataset", root=f"{_videos}/revos", **_clip), repeats=10),
    dict(
        name="ref_youtube_vos",
        dataset=dict(type="RefYouTubeVOSDataset", root=f"{_videos}/rvos", **_clip),
        repeats=4,
    ),
    dict(name="ref_sav", dataset=dict(type="RefSAVDataset", root=_videos, **_clip), repeats=4),
]  # repeats: release
train_dataloader = dict(
    batch_size=2,  # release, 1B
    num_workers=4,  # assumed
    persistent_workers=True,
    sampler=dict(type="DrawSampler"),
    dataset=dict(
        type="Mixture",
        sources=_sources,
        # paper: "semantic ambiguity and temporal discontinuity"; kinds and rates: assumed
        transforms=[
            dict(type="Cut"),
            dict(type="OccludeTarget"),
            dict(type="PasteDistractor"),
        ],
    ),
)
