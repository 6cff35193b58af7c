"""Both fusions against the public code, at every stage, and the whole module under each of its keys."""

from __future__ import annotations

import math

import pytest
import torch
from refstream_projects.virst.fusion import FUSIONS, FusionTokens, SpatioTemporalFusion
from refstream_projects.virst.fusion_steps import InitialFusion, SecondFusion
from refstream_projects.virst.rope import rotation
from refstream_projects.virst.tests.weights import (
    arrays,
    assert_gradient_near,
    assert_near,
    case,
    features,
    initial_fusion,
    second_fusion,
)
from torch import Tensor

from refstream.errors import UserError
from refstream.registry import HEADS

H, C, N, SIZE = 48, 64, 5, 8  # a tiny model: stride-16 map of 8 x 8, 8 heads of width 8


def fusion(**keys: object) -> SpatioTemporalFusion:
    return SpatioTemporalFusion(H, C, **{"num_tokens": N, "map_size": SIZE, **keys}).eval()


def maps(batch_size: int, num_frames: int, seed: int = 1) -> Tensor:
    return torch.randn(batch_size, num_frames, C, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def states(batch_size: int, seed: int = 2) -> Tensor:
    return torch.randn(batch_size, N, H, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- the public code


@pytest.mark.parametrize("entry", case()["second_fusion"], ids=lambda entry: entry["name"])
def test_second_fusion_of_the_public_code(entry: dict) -> None:
    data, module = arrays("stf", f"second/{entry['name']}"), second_fusion("stf", 2, 2)
    tokens = module.frame_tokens(features(data, entry["batch"]))
    hidden = data["tokens"].requires_grad_()
    prompts, scores = module(hidden, tokens, token_mask=data.get("seg_mask"))
    assert prompts.shape == (entry["batch"], entry["T"], entry["N"], 64)
    assert_near(prompts.transpose(1, 2), data["out"])
    assert_near(scores / 64, data["frame_score"])  # ours is a share, the public one a mean over 64 cells
    assert scores.sum(1) / 64 == pytest.approx([entry["frame_score_sum"]] * entry["batch"])
    if "memory" in data:
        assert_near(tokens.flatten(1, 2), data["memory"])
    (prompts.transpose(1, 2) * data["upstream"]).sum().backward()
    assert_gradient_near(hidden.grad, data["tokens_grad"])


@pytest.mark.parametrize("entry", case()["second_fusion"], ids=lambda entry: entry["name"])
@torch.no_grad()
def test_layers_and_attention_of_the_public_code(entry: dict) -> None:
    data, module = arrays("stf", f"second/{entry['name']}"), second_fusion("stf", 2, 2)
    tokens = module.frame_tokens(features(data, entry["batch"]))
    memory, x = tokens.flatten(1, 2), module.expand(data["tokens"], entry["T"])
    turns = [rotation(p, 32) for p in module.positions(entry["T"], 64, entry["N"], x.device)]
    mask = data["seg_mask"].repeat_interleave(entry["T"], dim=1) if "seg_mask" in data else None
    compared = 0
    for number, layer in enumerate(module.layers):
        asked = layer.attend_self(x, mask)
        x = layer(x, memory, *turns, query_mask=mask)
        for name, num_parts in [(f"layer{number}", 0), (f"attention{number}", 64 * entry["T"])]:
            if name in data:
                attention = layer.cross_attention
                ours = attention.frame_shares(asked, memory, *turns, num_parts) if num_parts else x
                assert_near(ours, data[name])
                compared += 1
        shares = layer.cross_attention.frame_shares(asked, memory, *turns, entry["T"])
        assert_near(shares, data[f"attention{number}_per_frame"])
    assert compared == sum(name in data for name in ("layer0", "attention0", "attention1"))


@pytest.mark.parametrize("name", ["t1", "t4"])
def test_initial_fusion_of_the_public_code(name: str) -> None:
    data, module = arrays("stf", f"initial/{name}"), initial_fusion("stf", 8)
    embeds = data["embeds"].requires_grad_()
    fused = module(embeds, module.frame_tokens(features(data, len(embeds))))
    assert_near(fused, data["out"])
    assert module.gate.item() == case()["initial_fusion"]["gate_in_weights"]
    (fused * data["upstream"]).sum().backward()
    assert_gradient_near(embeds.grad, data["embeds_grad"])
    assert_gradient_near(module.gate.grad[0], data["gate_grad"])
    first = module.down_sampler.convolutions[0].weight.grad
    assert_gradient_near(first.norm(), data["first_conv_grad_norm"])


@pytest.mark.parametrize("width", case()["parameter_counts_by_llm_width"])
def test_parameter_counts_of_the_public_code(width: str) -> None:
    with torch.device("meta"):
        module = SpatioTemporalFusion(int(width))
    counts = {
        name: sum(p.numel() for p in getattr(module, f"{name}_fusion").parameters())
        for name in ("initial", "second")
    }
    assert counts == case()["parameter_counts_by_llm_width"][width]
    assert sum(p.numel() for p in module.parameters()) == sum(counts.values()) + 10 * int(width)


# ---------------------------------------------------------------- initial fusion


def test_the_gate_starts_at_a_tenth_and_zero_shuts_it() -> None:
    module = fusion()
    assert module.initial_fusion.gate.tolist() == [pytest.approx(0.1)]
    embeds = module.st_tokens(2)
    assert not torch.allclose(module.initial(maps(2, 3)), embeds)
    with torch.no_grad():
        module.initial_fusion.gate.zero_()
    assert torch.equal(module.initial(maps(2, 3)), embeds)


def test_initial_fusion_teaches_everything_but_the_segmenter() -> None:
    module, seen = fusion(), maps(1, 3).requires_grad_()
    module.initial(seen).square().sum().backward()
    assert seen.grad is None
    assert module.st_tokens.embeddings.grad.abs().sum() > 0
    without = [n for n, p in module.initial_fusion.named_parameters() if p.grad is None]
    assert without == []
    assert module.initial_fusion.gate.grad.abs() > 0
    assert module.initial_fusion.down_sampler.convolutions[0].weight.grad.abs().sum() > 0


def test_initial_fusion_knows_no_order_of_frames() -> None:
    module, seen = fusion(), maps(1, 4)
    torch.testing.assert_close(module.initial(seen[:, [2, 0, 3, 1]]), module.initial(seen))
    assert not torch.allclose(module.initial(seen[:, :3]), module.initial(seen))


# ---------------------------------------------------------------- second fusion


def test_states_are_repeated_token_by_token() -> None:
    module, hidden = fusion().second_fusion, states(1)
    expanded = module.expand(hidden, 3)
    projected = module.projection(hidden)
    for token in range(N):
        for time in range(3):
            assert torch.equal(expanded[0, 3 * token + time], projected[0, token])


def test_only_time_tells_the_copies_of_a_token_apart() -> None:
    hidden, seen = states(1), maps(1, 4)
    torch.manual_seed(0)
    frozen, _ = fusion(time_rotation=False).second(hidden, seen)
    torch.manual_seed(0)
    running, _ = fusion().second(hidden, seen)
    torch.testing.assert_close(frozen, frozen[:, :1].expand_as(frozen))
    assert (running - running[:, :1]).abs().amax(dim=(0, 2, 3))[1:].min() > 1e-3


def test_second_fusion_teaches_states_weights_and_features() -> None:
    module, hidden, seen = fusion(), states(2).requires_grad_(), maps(2, 3).requires_grad_()
    prompts, scores = module(hidden, seen)
    assert not scores.requires_grad
    (prompts * torch.randn_like(prompts)).sum().backward()
    assert hidden.grad.abs().sum() > 0
    assert seen.grad.abs().sum() > 0
    assert [n for n, p in module.second_fusion.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("query_space", [False, True])
def test_padding_changes_nothing(query_space: bool) -> None:
    module, hidden, seen = fusion(query_space=query_space), states(2), maps(2, 5)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    prompts, scores = module.second(hidden, seen, mask)
    embeds = module.initial(seen, mask)
    for row, length in enumerate((3, 5)):
        alone, score = module.second(hidden[row : row + 1], seen[row : row + 1, :length])
        torch.testing.assert_close(prompts[row, :length], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores[row, :length], score[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(embeds[row], module.initial(seen[row : row + 1, :length])[0])
    assert not prompts[0, 3:].any()
    assert not scores[0, 3:].any()
    torch.testing.assert_close(scores.sum(1), torch.ones(2))


def test_the_middle_as_the_place_of_queries_is_another_model() -> None:
    module, hidden, seen = fusion(), states(1), maps(1, 2)
    corner, _ = module.second(hidden, seen)
    module.second_fusion.query_space = True
    middle, _ = module.second(hidden, seen)
    assert (corner - middle).abs().max() > 1e-3


def test_one_clip_serves_many_expressions() -> None:
    module, hidden, seen = fusion(), states(3), maps(1, 4)
    mask = torch.tensor([[True, True, True, False]])
    for given in (seen, module.condense(seen)):
        shared, scores = module.second(hidden, given, mask)
        apart, same = module.second(hidden, seen.expand(3, -1, -1, -1, -1), mask.expand(3, -1))
        torch.testing.assert_close(shared, apart, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores, same, rtol=1e-4, atol=1e-5)
        assert torch.equal(module.initial(given, mask), module.initial(seen, mask))


def test_condensed_frames_may_be_gathered_one_by_one() -> None:
    module, hidden, seen = fusion(), states(1), maps(1, 3)
    tokens = FusionTokens.concatenate([module.condense(seen[:, t : t + 1]) for t in range(3)])
    assert (tokens.batch_size, tokens.num_frames) == (1, 3)
    assert tokens.second.shape == (1, 3, SIZE * SIZE, C)
    torch.testing.assert_close(module.initial(tokens), module.initial(seen))
    torch.testing.assert_close(module.second(hidden, tokens), module.second(hidden, seen))


def test_dropout_acts_while_training_only() -> None:
    module, hidden, seen = fusion(), states(1), maps(1, 2)
    assert torch.equal(module.second(hidden, seen)[0], module.second(hidden, seen)[0])
    module.train()
    assert not torch.equal(module.second(hidden, seen)[0], module.second(hidden, seen)[0])


# ---------------------------------------------------------------- the whole, by configuration


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_has_the_parts_it_names(name: str) -> None:
    module = fusion(fusion=name)
    with_initial, second = FUSIONS[name]
    hidden, seen = states(2), maps(2, 3)
    embeds = module.initial(seen)
    prompts, scores = module.second(hidden, seen)
    assert embeds.shape == (2, N, H)
    assert prompts.shape == (2, 3, N, C)
    assert scores.shape == (2, 3)
    assert torch.equal(embeds, module.st_tokens(2)) is not with_initial
    differs = (prompts - prompts[:, :1]).abs().max() > 1e-4
    assert bool(differs) is (second == "decoder")
    torch.testing.assert_close(scores.sum(1), torch.full((2,), float(second == "decoder")))
    # every weight there is takes part: nothing waits for a gradient that never comes
    (prompts.square().sum() + embeds.square().sum()).backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


def test_repeated_prompts_in_closed_form() -> None:
    hidden, seen = states(1), maps(1, 2)
    mask = torch.tensor([[True, False]])
    linear, mlp = fusion(fusion="initial_only"), fusion(fusion="mlp")
    (layer,), (first, _, last) = linear.second_fusion.projection, mlp.second_fusion.projection
    torch.testing.assert_close(linear.second(hidden, seen)[0][:, 1], hidden @ layer.weight.T + layer.bias)
    inner = (hidden @ first.weight.T + first.bias).relu()
    torch.testing.assert_close(mlp.second(hidden, seen)[0][:, 1], inner @ last.weight.T + last.bias)
    assert not mlp.second(hidden, seen, mask)[0][:, 1].any()


def test_it_is_a_head_that_configs_can_name() -> None:
    config = dict(type="SpatioTemporalFusion", hidden_size=H, prompt_dim=C, map_size=SIZE, num_tokens=3)
    module = HEADS.build(config)
    assert isinstance(module, SpatioTemporalFusion)
    assert module.initial(maps(1, 1)).shape == (1, 3, H)


def test_bfloat16_weights_take_float32_features() -> None:
    module = fusion().to(torch.bfloat16)
    mask = torch.tensor([[True, True, False]])
    prompts, scores = module.second(states(1), maps(1, 3), mask)
    assert (prompts.dtype, scores.dtype) == (torch.bfloat16, torch.float32)
    assert module.initial(maps(1, 3), mask).dtype == torch.bfloat16
    assert prompts.isfinite().all()


def test_small_sizes_work() -> None:
    module = SpatioTemporalFusion(24, 12, num_tokens=1, map_size=2, grid=1, num_heads=2, initial_heads=1)
    prompts, scores = module.second(torch.randn(1, 1, 24), torch.randn(1, 1, 12, 2, 2))
    assert prompts.shape == (1, 1, 1, 12)
    assert scores.tolist() == [[pytest.approx(1.0)]]


BAD_KEYS = [
    (dict(fusion="both"), "fusion must be one of.*got 'both'"),
    (dict(num_heads=7), "width of 64 does not divide into 7 heads"),
    (dict(initial_heads=5), "width of 48 does not divide into 5 heads"),
    (dict(num_heads=16), "heads of width 6 or more"),
    (dict(map_size=64, grid=7), "set grid to one of these"),
    (dict(map_size=4), "not 8; set grid"),
]


@pytest.mark.parametrize(("keys", "message"), BAD_KEYS, ids=lambda part: str(part)[:24])
def test_sizes_that_do_not_fit_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fusion(**keys)


def test_wrong_input_is_refused() -> None:
    module, hidden, seen = fusion(max_frames=4), states(2), maps(2, 3)
    empty = torch.tensor([[True] * 3, [False] * 3])
    with pytest.raises(ValueError, match=r"expected features \(B, T, 64, 8, 8\), got \(2, 3, 64, 4, 8\)"):
        module.initial(seen[..., :4, :])
    with pytest.raises(UserError, match="1 to 4 frames, got 5"):
        module.second(hidden, maps(2, 5))
    with pytest.raises(UserError, match="1 to 4 frames, got 0"):
        module.second(hidden, maps(2, 1)[:, :0])
    with pytest.raises(ValueError, match=r"mask must be \(2, 3\)"):
        module.initial(seen, torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="all False"):
        module.second(hidden, seen, empty)
    with pytest.raises(ValueError, match="needs a token"):
        module.second(hidden, seen, token_mask=torch.zeros(2, N, dtype=torch.bool))
    with pytest.raises(ValueError, match="batch 2 do not fit the states' batch 3"):
        module.second(states(3), seen)
    with pytest.raises(ValueError, match="nothing for the initial fusion"):
        module.initial(fusion(fusion="second_only").condense(seen))


def test_steps_refuse_what_only_they_can_see() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1"):
        SecondFusion(H, C, num_layers=0)
    with pytest.raises(ValueError, match="must be a square, got 6"):
        SecondFusion(H, C, C)(states(1), torch.randn(1, 2, 6, C))
    assert math.isclose(InitialFusion(16, 4, 8, 2, gate=0.5).gate.item(), 0.5)
