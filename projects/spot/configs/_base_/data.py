"""Segments of consecutive frames, and pictures; the paper does not give its mixture (assumed)."""

_clip = dict(
    num_frames=8,  # paper: T_s
    sampling="contiguous",  # assumed
    expressions=1,  # assumed
)
_videos = "data/video_datas"
_images = dict(type="RefCOCODataset", root="data/ref_seg", split="train", expressions=1)
train_dataloader = dict(
    batch_size=1,  # a clip of 8 frames is 8 dialogues
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DrawSampler"),
    dataset=dict(
        type="Mixture",
        sources=[
            dict(
                name="mevis",
                dataset=dict(type="MeViSDataset", root=f"{_videos}/mevis/train", **_clip),
                repeats=4,
            ),
            dict(
                name="revos", dataset=dict(type="ReVOSDataset", root=f"{_videos}/revos", **_clip), repeats=10
            ),
            dict(
                name="ref_youtube_vos",
                dataset=dict(type="RefYouTubeVOSDataset", root=f"{_videos}/rvos", **_clip),
                repeats=4,
            ),
            # a picture is a segment of one frame: no bridge
            dict(name="refcoco", dataset=dict(_images, name="refcoco"), repeats=1),
            dict(name="refcoco_plus", dataset=dict(_images, name="refcoco+"), repeats=1),
            dict(name="refcocog", dataset=dict(_images, name="refcocog"), repeats=1),
        ],
    ),
)
