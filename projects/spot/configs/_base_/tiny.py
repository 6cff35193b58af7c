"""The tiny model: sizes of the shared tiny parts, laid over the ``paper`` preset."""

_base_ = ["../../../../configs/_base_/tiny_model.py", "./paper.py"]

_mllm = _base_.composite.mllm
_text = dict(_mllm.config.text_config, max_position_embeddings=1024)  # both rounds, with 36 tokens per frame
_judgements = ["<Yes>", "<No>"]  # its tokenizer would spell the words
_answers = [*_base_.spot.mllm.prompts.answer_tokens, *_judgements]
model = dict(
    model=dict(
        mllm=dict(
            _mllm,
            config=dict(_mllm.config, text_config=_text),
            added_tokens=[*_base_.spot.mllm.added_tokens, *_judgements],
            prompts=dict(with_context=False, answer_tokens=_answers),
        ),
        segmenter=_base_.composite.segmenter,
        head=_base_.composite.head,  # of no use to this method
        pipeline=dict(
            _base_.spot.pipeline,
            max_objects=1,  # MiniRVOS asks for one box around all that is meant
            max_new_tokens=32,
            text=dict(
                _base_.spot.pipeline.text,
                style="brackets",
                yes="<Yes>",
                no="<No>",
                separator="",
                box_question='Where is "{expression}"?',
                # without the list of points, which would be more than half of the dialogue
                point_question='Where in {box} is "{expression}"?',
            ),
        ),
    ),
    # it has never spoken numbers: all of its language model learns them, not LoRA alone
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
    ],
    lora=None,
    token_rows=None,
    gradient_checkpointing=False,
    autocast=None,
    frozen_dtype=None,
)
