"""Learners that prepare the parts of a model trained from scratch, as released parts come prepared.

The order: the segmenter on points and boxes, the vision tower on the words for what its tokens show, the
language model on where the meant object is. Then a method's own learner trains them together. Layers that
only serve here (``nn.Module`` members of a learner) are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.data.collate import ClipBatch
from refstream.engine.model import build_learner
from refstream.models.masks import mask_ious
from refstream.models.segmenter.prompts import embed_points
from refstream.registry import LEARNERS, LOSSES
from refstream.structures import SegPrompt


def truth_masks(batch: ClipBatch, side: int, device: torch.device) -> Tensor:
    """(N, side, side) float32: the first frame of each mask, area-averaged."""
    masks = torch.stack([mask[0] for mask in batch.masks]).to(device)
    return F.adaptive_avg_pool2d(masks[:, None].float(), side)[:, 0]


def boxes_of(masks: Tensor) -> Tensor:
    """(N, h, w) masks -> (N, 4) x1, y1, x2, y2 in pixels, inclusive; masks must not be empty."""
    across, down = masks.any(dim=1), masks.any(dim=2)
    first = [m.float().argmax(1) for m in (across, down)]
    last = [m.shape[1] - 1 - m.flip(1).float().argmax(1) for m in (across, down)]
    return torch.stack((first[0], first[1], last[0], last[1]), dim=1).float()


def random_pixels(masks: Tensor) -> Tensor:
    """(N, h, w) masks -> (N, 1, 2) x, y of one pixel of each, drawn evenly."""
    place = torch.multinomial(masks.flatten(1).float(), 1)
    return torch.stack((place % masks.shape[2], place // masks.shape[2]), dim=-1).float()


@LEARNERS.register_module()
class PromptedMaskLearner:
    """The segmenter on points and boxes; half of the boxes ask for the single mask.

    All candidates learn every mask.

    With the usual loss on the best candidate only, a small model divides the objects among its candidates and
    never reads the prompt.

    Args:
        mask_loss: Config of the mask loss.
        mask_side: Resolution at which masks are compared.
        iou_weight: Weight of |predicted IoU - true IoU|.
        score_weight: Weight of the object score.
        absent: Share of point prompts that lie on the background; they train the object score alone.
    """

    def __init__(
        self,
        mask_loss: dict[str, Any] | None = None,
        mask_side: int = 64,
        iou_weight: float = 1.0,
        score_weight: float = 0.1,
        absent: float = 0.1,
    ) -> None:
        self.mask_loss = LOSSES.build(mask_loss or dict(type="MaskLoss"))
        self.mask_side = mask_side
        self.iou_weight, self.score_weight, self.absent = iou_weight, score_weight, absent

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Losses and the statistic ``iou`` of the chosen candidate."""
        segmenter = model.segmenter
        images = [clip[0] for clip in batch.frames]
        features = segmenter.encode(segmenter.preprocess(images))
        masks = truth_masks(batch, segmenter.image_size, features.embedding.device) > 0.5
        seen = masks.flatten(1).any(1)
        masks, index = masks[seen], batch.clip_index.to(masks.device)[seen]
        prompt, present = self._prompts(masks, index)
        multimask = prompt.box_xyxy is None or bool(torch.rand(()) < 0.5)
        prediction = segmenter.decode(features.take(index), prompt, multimask=multimask)
        return self._compare(prediction, masks, present)

    def _prompts(self, masks: Tensor, index: Tensor) -> tuple[SegPrompt, Tensor]:
        if torch.rand(()) < 0.5:
            return SegPrompt(box_xyxy=boxes_of(masks)), torch.ones(
                len(masks), dtype=torch.bool, device=masks.device
            )
        covered = torch.zeros(int(index.max()) + 1, *masks.shape[1:], device=masks.device)
        covered.index_add_(0, index, masks.float())
        ground = covered[index] == 0
        absent = (torch.rand(len(masks), device=masks.device) < self.absent) & ground.flatten(1).any(1)
        points = random_pixels(torch.where(absent[:, None, None], ground, masks))
        labels = torch.ones(len(masks), 1, dtype=torch.int64, device=masks.device)
        return SegPrompt(points_xy=points, point_labels=labels), ~absent

    def _compare(self, prediction: Any, masks: Tensor, present: Tensor) -> dict[str, Tensor]:
        side, candidates = (self.mask_side, self.mask_side), prediction.candidate_iou.shape[1]
        logits = F.interpolate(prediction.candidate_logits, side, mode="bilinear", align_corners=False)
        target = F.interpolate(masks[:, None].float(), side, mode="area").expand_as(logits).flatten(0, 1)
        losses = self.mask_loss(logits.flatten(0, 1), target, present.repeat_interleave(candidates))
        true_iou = mask_ious(logits.detach().flatten(0, 1) > 0, target > 0.5).view(-1, candidates)
        error = (prediction.candidate_iou - true_iou).abs().mean(1)
        losses["loss_iou"] = self.iou_weight * (error * present).sum() / present.sum().clamp(min=1)
        score = F.binary_cross_entropy_with_logits(prediction.object_score, present.float())
        losses["loss_score"] = self.score_weight * score
        chosen = true_iou.gather(1, prediction.candidate_iou.argmax(1, keepdim=True))[:, 0]
        losses["iou"] = (chosen * present).sum() / present.sum().clamp(min=1)
        return losses


@LEARNERS.register_module()
class VisualWordLearner(nn.Module):
    """Vision tower and projector: every token says the words of what it covers, and where that lies.

    A word is said by likeness to its own (frozen) word embedding, so that image tokens and words come to live
    in one space, as in released models; the language model can then find a word in the image at once.

    Args:
        words: Groups of words (colours, shapes, sizes); a sample's expressions name objects by them ("small
            red circle"). A name that says no word of a group tells nothing about that group.
        hidden_size: D of the MLLM.
        least_cover: Share of a token's cell that an object must cover to count.
        place_weight: Weight of the error of centre and size of what a token covers most.
    """

    def __init__(
        self,
        words: Sequence[Sequence[str]],
        hidden_size: int,
        least_cover: float = 0.06,
        place_weight: float = 4.0,
    ) -> None:
        super().__init__()
        self.words = {word: i for i, word in enumerate(word for group in words for word in group)}
        group_of = [number for number, group in enumerate(words) for _ in group]
        self.group_of: Tensor
        self.register_buffer("group_of", torch.tensor(group_of))
        self.num_groups = len(words)
        self.least_cover, self.place_weight = least_cover, place_weight
        self.bias = nn.Parameter(torch.zeros(len(self.words)))
        self.here, self.place = nn.Linear(hidden_size, 1), nn.Linear(hidden_size, 4)

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Losses for "an object is here" and, where one is, for each word and for its box."""
        mllm = model.mllm
        tokens = mllm.encode_images(mllm.preprocess([clip[0] for clip in batch.frames]))
        ids = [mllm.tokenizer(f" {word}", add_special_tokens=False).input_ids for word in self.words]
        names = mllm.word_embeddings.weight[[one[0] for one in ids]].detach()
        said = tokens @ names.T / names.shape[1] ** 0.5 + self.bias
        side = round(tokens.shape[1] ** 0.5)
        masks = truth_masks(batch, model.segmenter.image_size, tokens.device)
        cover = F.adaptive_avg_pool2d(masks[:, None], side).flatten(1)  # (N, tokens)
        index = batch.clip_index.to(tokens.device)
        words, boxes, here = self._truth(batch, masks, cover, index, tokens.shape[:2])
        told = torch.stack([words[..., self.group_of == g].amax(-1) for g in range(self.num_groups)], -1)
        error = F.binary_cross_entropy_with_logits(said, words, reduction="none")
        error = (error * told[..., self.group_of]).sum(-1)
        away = (self.place(tokens).sigmoid() - boxes).abs().mean(-1)
        count = here.sum().clamp(min=1)
        return {
            "loss_here": F.binary_cross_entropy_with_logits(self.here(tokens)[..., 0], here),
            "loss_words": (error * here).sum() / count / 4,
            "loss_place": self.place_weight * (away * here).sum() / count,
        }

    def _truth(
        self, batch: ClipBatch, masks: Tensor, cover: Tensor, index: Tensor, shape: torch.Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Words that hold (B, tokens, words), box of the main object (B, tokens, 4), any (B, tokens)."""
        names = cover.new_zeros(len(cover), len(self.words))
        for row, expression in enumerate(batch.expressions):
            names[row, [self.words[word] for word in expression.split()]] = 1.0
        covered = (cover > self.least_cover).float()
        words = cover.new_zeros(*shape, len(self.words))
        words = words.index_add(0, index, covered[..., None] * names[:, None]).clamp(max=1)
        box = boxes_of(masks > 0.5) / masks.shape[-1]
        box = torch.cat(((box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]), dim=1)
        most = cover.new_zeros(*shape).scatter_reduce(0, index[:, None].expand_as(cover), cover, "amax")
        main = ((cover == most[index]) & (cover > 0)).float()
        boxes = cover.new_zeros(*shape, 4).index_add(0, index, main[..., None] * box[:, None]).clamp(max=1)
        return words, boxes, words.amax(-1)


@LEARNERS.register_module()
class PointingLearner(nn.Module):
    """The language model: the [SEG] state points to the image tokens that show the object.

    The prompt head learns to give what the segmenter's own prompt encoder gives for a point at its centre.

    Args:
        hidden_size: D of the MLLM.
        width: Of the pointer.
        text_weight: Weight of the token cross-entropy.
        code_weight: Weight of the prompt head's error.
    """

    def __init__(
        self, hidden_size: int, width: int = 64, text_weight: float = 0.1, code_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(hidden_size, width), nn.Linear(hidden_size, width)
        self.box = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 4))
        self.text_weight, self.code_weight = text_weight, code_weight

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Pointer, box, prompt and token losses."""
        mllm = model.mllm
        index = batch.clip_index.to(mllm.device)
        tokens = mllm.encode_images(mllm.preprocess([clip[0] for clip in batch.frames]))[index]
        chat = model.chat(batch.expressions)
        output = mllm.forward_chat(chat, tokens)
        states = model.seg_states(output, chat)
        masks = truth_masks(batch, model.segmenter.image_size, tokens.device)
        pointed = (self.key(tokens) * self.query(states)[:, None]).sum(-1) / self.query.out_features**0.5
        cells = F.adaptive_avg_pool2d(masks[:, None], round(tokens.shape[1] ** 0.5)).flatten(1)
        share = cells / cells.sum(1, keepdim=True).clamp(min=1e-6)
        box = boxes_of(masks > 0.5)
        centre = (box[:, :2] + box[:, 2:]) / 2
        with torch.no_grad():
            code = embed_points(
                model.segmenter.model, centre[:, None], torch.ones(len(centre), 1, device=centre.device)
            )
        given = model.head(states).embedding
        scaled = torch.cat((centre, box[:, 2:] - box[:, :2]), dim=1) / masks.shape[-1]
        return {
            "loss_point": -(share * F.log_softmax(pointed, -1)).sum(-1).mean(),
            "loss_box": 10 * (self.box(states).sigmoid() - scaled).abs().mean(),
            "loss_code": self.code_weight * F.mse_loss(given, code),
            "loss_text": self.text_weight * output.loss,
        }


@LEARNERS.register_module()
class AlternatingLearner(nn.Module):
    """Several learners on one stream of batches, one at a time, drawn by their shares.

    Args:
        learners: Their configs.
        shares: How often each has its turn; equal by default.
        hidden_size: D of the MLLM, passed on to learners with layers of their own.
    """

    def __init__(
        self, learners: Sequence[dict[str, Any]], hidden_size: int, shares: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if shares is not None and (len(shares) != len(learners) or min(shares) <= 0):
            raise ValueError(f"{len(learners)} learners need as many positive shares, got {shares}")
        self.learners = [build_learner(one, hidden_size) for one in learners]
        self.parts = nn.ModuleList(one for one in self.learners if isinstance(one, nn.Module))
        self.shares = torch.tensor(shares or [1.0] * len(learners), dtype=torch.float64)

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Those of the learner whose turn it is."""
        turn = int(torch.multinomial(self.shares, 1))
        return self.learners[turn].losses(model, batch)
