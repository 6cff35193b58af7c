"""A captioner from a model folder: a tiny random model of two kinds, laid out as published folders are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refstream_projects.streamo.annotation.captioners import captioner_of
from refstream_projects.streamo.annotation.prompts import EVENT
from refstream_projects.streamo.annotation.vlm_captioner import TransformersCaptioner
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerFast

from refstream.errors import UserError

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
QWEN_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
INTERN_TOKENS = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
TEMPLATE = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    "{{% endfor %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)


def tokenizer(tokens: tuple[str, ...]) -> PreTrainedTokenizerFast:
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"\n": 95, "?": 31}
    plain = Tokenizer(models.WordLevel({**letters, "[UNK]": 96}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": list(tokens)})
    fast.pad_token = "<|im_end|>"
    return fast


def qwen_folder(folder: Path) -> Path:
    words = tokenizer(QWEN_TOKENS)
    ids = {token: words.convert_tokens_to_ids(token) for token in QWEN_TOKENS}
    text = {**TEXT, "vocab_size": len(words)}
    text["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}
    vision = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2, "out_hidden_size": 32}
    vision.update(fullatt_block_indexes=[1], window_size=56)
    config = AutoConfig.for_model(
        "qwen2_5_vl",
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    write_model(folder, config, words, TEMPLATE.format(image="<|vision_start|><|image_pad|><|vision_end|>"))
    pixels = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    images = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    write_json(folder / "preprocessor_config.json", {**images, **pixels})
    write_json(folder / "video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor"})
    return folder


def intern_folder(folder: Path) -> Path:
    words = tokenizer(INTERN_TOKENS)
    for name, token in zip(
        ("start_image_token", "end_image_token", "context_image_token", "video_token"),
        INTERN_TOKENS[2:],
        strict=True,
    ):
        words.init_kwargs[name] = token
    config = AutoConfig.for_model(
        "internvl",
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        vision_config={
            **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
            **{"image_size": [28, 28], "patch_size": [14, 14]},
        },
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=1,
    )
    write_model(folder, config, words, TEMPLATE.format(image="<IMG_CONTEXT>\n"))
    kind = {"image_processor_type": "GotOcr2ImageProcessor", "processor_class": "InternVLProcessor"}
    write_json(
        folder / "preprocessor_config.json",
        {**kind, "size": {"height": 28, "width": 28}, "crop_to_patches": False, "do_resize": True},
    )
    write_json(folder / "video_preprocessor_config.json", {"video_processor_type": "InternVLVideoProcessor"})
    write_json(
        folder / "processor_config.json", {"processor_class": "InternVLProcessor", "image_seq_length": 1}
    )
    return folder


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_model(folder: Path, config, words: PreTrainedTokenizerFast, template: str) -> None:
    torch.manual_seed(0)
    config.tie_word_embeddings = False
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


@pytest.fixture(scope="module", params=["qwen", "intern"])
def folder(request, tmp_path_factory) -> Path:
    make = {"qwen": qwen_folder, "intern": intern_folder}[request.param]
    return make(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)


def test_it_says_what_the_plain_model_says(folder, frames):
    """Oracle: a chat written out by hand, and the likeliest token after each whole prefix, no cache."""
    captioner = captioner_of(str(folder), max_frames=2, max_new_tokens=6)
    said = captioner.caption(frames, np.arange(5.0), EVENT)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    image = {"qwen": "<|vision_start|><|image_pad|><|vision_end|>", "intern": "<IMG_CONTEXT>\n"}
    mark = image["qwen" if "Qwen" in type(processor).__name__ else "intern"]
    chat = f"<|im_start|>user\n0 s: {mark}4 s: {mark}{EVENT.text}<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=[chat], images=[Image.fromarray(frames[k]) for k in (0, 4)], return_tensors="pt")
    pixels = {name: value for name, value in inputs.items() if "pixel" in name or "grid" in name}
    ids, kinds = inputs["input_ids"], inputs.get("mm_token_type_ids")
    length = ids.shape[1]
    with torch.no_grad():
        for _ in range(6):
            more = {} if kinds is None else {"mm_token_type_ids": kinds}
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **pixels, **more).logits
            token = logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], 1)
            kinds = None if kinds is None else torch.cat([kinds, torch.zeros_like(token)], 1)
            if token.item() == processor.tokenizer.eos_token_id:
                break
    expected = processor.decode(ids[0, length:], skip_special_tokens=True).strip()
    assert said == expected
    assert said == captioner.caption(frames, np.arange(5.0), EVENT)


def test_each_picture_comes_after_its_time_and_the_name_tells_options_apart(folder, frames):
    captioner = TransformersCaptioner(folder, max_frames=2, max_new_tokens=4)
    shown = [part["type"] for part in captioner.messages(frames, np.arange(5.0), EVENT)[0]["content"]]
    assert shown == ["text", "image", "text", "image", "text"]
    assert captioner.name != TransformersCaptioner(folder, max_frames=3, max_new_tokens=4).name
    with pytest.raises(ValueError, match="max_frames >= 2"):
        TransformersCaptioner(folder, max_frames=1)


def test_folders_that_are_no_model_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="no captioner 'nobody': expected one of rules"):
        captioner_of("nobody")
    with pytest.raises(UserError, match=r"no config.json"):
        captioner_of(str(tmp_path))
    for name, content in [("config.json", "{}"), ("config.json", '{"model_type": "bert"}')]:
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match="cannot be loaded as an image-text-to-text model"):
            captioner_of(str(tmp_path))


def test_a_folder_without_template_or_with_missing_weights_is_refused(folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="has no chat template"):
        TransformersCaptioner(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 3
    config["text_config"].pop("layer_types", None)
    write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match=r"lacks \d+ weights"):
        TransformersCaptioner(tmp_path)
