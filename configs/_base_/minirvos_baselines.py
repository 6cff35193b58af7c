"""What any method's table on MiniRVOS is compared with: rows without training of their own.

A model that was taught to say boxes and nothing else, asked on every frame, or on the first one with the
segmenter's memory after it; and [SEG] of a model of single frames, carried on by the memory from the first
five. All three share the same released-like parts: tower, language model and a segmenter with a memory.
"""

_baseline_arms = dict(
    says_boxes=dict(folder="work_dirs/spot/tiny_stills/export"),
    says_seg=dict(folder="work_dirs/virst/tiny_memory_fit/export"),
)
_box = dict(  # as it was taught
    type="SpokenBox", question='Where is "{expression}"?', refusal="No object found."
)
_baseline_rows = [
    dict(name="spoken box, every frame", arm="says_boxes", pipeline=_box),
    dict(
        name="spoken box, first frame, then memory",
        arm="says_boxes",
        pipeline=dict(_box, gate=dict(type="FirstFrameGate"), memory="on"),
    ),
    dict(
        name="[SEG] of 5 frames, then memory",
        arm="says_seg",
        pipeline=dict(type="SegPropagation", looks=5),
    ),
]
