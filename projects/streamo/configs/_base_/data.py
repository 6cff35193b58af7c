"""Streamo-Instruct, or raw annotations in its schema; the videos come from their own sources."""

train_dataloader = dict(
    batch_size=2,  # release: 1; two that are short share a row
    num_workers=4,  # release
    persistent_workers=True,
    sampler=dict(type="DrawSampler"),
    dataset=dict(
        type="StreamoDataset",
        annotations="data/streamo/streamo_instruct.json",
        videos="data/streamo/videos",
        fps=1.0,  # paper
    ),
)
