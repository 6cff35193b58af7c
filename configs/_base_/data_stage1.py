"""Images: referring segmentation and conversations, in the shares of the release's own mixture."""

_referring = [("refcoco", "refcoco"), ("refcoco_plus", "refcoco+"), ("refcocog", "refcocog")]
_sources = [
    *(
        dict(
            name=name,
            dataset=dict(
                type="RefCOCODataset",
                root="data/ref_seg",
                name=folder,
                split="train",
                expressions=5,  # release
            ),
            repeats=4,  # release
        )
        for name, folder in _referring
    ),
    dict(
        name="llava",
        dataset=dict(
            type="LLaVADataset",
            annotations="data/llava_data/LLaVA-Instruct-150K/llava_v1_5_mix665k.json",
            images="data/llava_data/llava_images",
        ),
        repeats=1,  # release
    ),
]
train_dataloader = dict(
    batch_size=1,  # release, 1B
    num_workers=4,  # assumed
    persistent_workers=True,
    sampler=dict(type="DrawSampler"),
    dataset=dict(type="Mixture", sources=_sources),
)
