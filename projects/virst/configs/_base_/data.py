"""The mixture of the released code, as its configuration says, without the shift by one that its code makes.

Groups sem_seg : refer_seg : vqa : reason_seg : video_vqa : rvos = 9 : 3 : 3 : 1 : 4 : 12. A source that has
no reader here stands with ``missing`` in place of ``dataset``: it gets no draws, and is named in every dry
run and at the start of every run.
"""

_shares = dict(sem_seg=9, refer_seg=3, vqa=3, reason_seg=1, video_vqa=4, rvos=12)  # release
_rvos = dict(mevis=4000, ref_youtube_vos=15000, davis=400, revos=3000, lv_vis=3000)  # release
_weights = {name: _shares["rvos"] * number / sum(_rvos.values()) for name, number in _rvos.items()}
_clip = dict(
    num_frames=8,  # release: 8 to 12
    sampling="random_sorted",  # assumed
    expressions=3,  # release: up to 3
)
_videos = "data/video_datas"
_images = dict(type="RefCOCODataset", root="data/ref_seg", split="train", expressions=3, repeat=False)
mixture = dict(
    videos=[
        dict(
            name="mevis",
            dataset=dict(type="MeViSDataset", root=f"{_videos}/mevis/train", **_clip),
            weight=_weights["mevis"],
        ),
        dict(
            name="ref_youtube_vos",
            dataset=dict(type="RefYouTubeVOSDataset", root=f"{_videos}/rvos", **_clip),
            weight=_weights["ref_youtube_vos"],
        ),
        dict(
            name="davis",
            dataset=dict(
                type="RefYouTubeVOSDataset",
                root=f"{_videos}/davis17",
                mask_file="train/mask_dict.pkl",
                **_clip,
            ),
            weight=_weights["davis"],
        ),
        dict(
            name="revos",
            dataset=dict(type="ReVOSDataset", root=f"{_videos}/revos", **_clip),
            weight=_weights["revos"],
        ),
        dict(name="lv_vis", missing="LV-VIS has no reader", weight=_weights["lv_vis"]),
    ],
    images=[
        dict(
            name="sem_seg",
            missing="ADE20K, COCO-Stuff, PACO-LVIS and PASCAL-Part have no reader",
            weight=_shares["sem_seg"],
        ),
        dict(name="refcoco", dataset=dict(_images, name="refcoco"), weight=_shares["refer_seg"] / 3),
        dict(name="refcoco_plus", dataset=dict(_images, name="refcoco+"), weight=_shares["refer_seg"] / 3),
        dict(name="refcocog", dataset=dict(_images, name="refcocog"), weight=_shares["refer_seg"] / 3),
        dict(
            name="reason_seg",
            missing="ReasonSeg has no training reader",
            weight=_shares["reason_seg"],
        ),
    ],
    texts=[
        dict(
            name="vqa",
            dataset=dict(
                type="LLaVADataset",
                annotations="data/llava_data/LLaVA-Instruct-150K/llava_v1_5_mix665k.json",
                images="data/llava_data/llava_images",
            ),
            weight=_shares["vqa"],
        ),
        dict(name="video_vqa", missing="LLaVA-Video-178K has no reader", weight=_shares["video_vqa"]),
    ],
)
train_dataloader = dict(
    batch_size=1,  # paper
    num_workers=4,  # assumed
    persistent_workers=True,
    sampler=dict(type="DrawSampler"),
)
