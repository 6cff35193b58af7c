"""SPOT on InternVL2.5-1B and SAM ViT-H, from which the paper's EfficientViT-SAM-XL1 was distilled."""

_base_ = ["./1b.py"]

work_dir = "work_dirs/spot/1b_sam1"
model = dict(
    model=dict(segmenter=dict(_delete_=True, type="Sam1Segmenter", config=dict(size="huge"))),
    init_from=dict(segmenter="pretrained/sam-vit-huge"),
)
