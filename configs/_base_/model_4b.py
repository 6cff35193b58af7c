"""InternVL2.5-4B with SAM 2.1 Hiera-L, and where their original weights lie (see pretrained/README.md)."""

composite = dict(
    mllm=dict(type="InternVL", config=dict(size="internvl2_5-4b")),  # paper
    segmenter=dict(type="Sam2Segmenter", config=dict(size="large", version="2.1")),  # release
    head=dict(type="SegTokenHead"),
)
weights = dict(mllm="pretrained/InternVL2_5-4B", segmenter="pretrained/sam2.1_hiera_large.pt")  # release
