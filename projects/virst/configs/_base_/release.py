"""What the released code does otherwise than the paper says; laid over a config of the ``paper`` preset."""

_release_reader = dict(
    max_mllm_frames=64,
    numbered=True,  # "(0) [SEG], (1) [SEG], ..."
    answer="It is {st}.",
)
release = dict(
    model=dict(
        head=dict(
            fusion="second_only",  # its evaluation scripts leave the initial fusion off
            shared_token=True,  # one [SEG], repeated
        ),
        pipeline=dict(
            anchors=dict(_delete_=True, type="release", divisor=4),  # a quarter of the frames
            memory=dict(anchors="nearest"),  # also of the future
            order="anchors_first",
            known_length=True,
            reader=_release_reader,
        ),
    ),
    learner=dict(
        loss=dict(
            iou_twice=True,
            absent="blank",
        ),
        memory=dict(
            anchors="nearest",  # also of the future
            future_pointers=True,
        ),
        order="first_anchor",
        clip_times=False,
        multimask=False,
    ),
)
