from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from gait.losses.cross_entropy import CrossEntropyConfig
from gait.losses.triplet import TripletConfig
from gait.model.trackletgait import TrackletGait
from gait.training.batches import Batch, BatchReader, open_sides
from gait.training.config import TrainingConfig
from gait.training.processes import Processes
from gait.training.step import NotFiniteError, Stepper

MakeConfig = Callable[..., TrainingConfig]


def network(config: TrainingConfig) -> TrackletGait:
    return TrackletGait.random(config.network, torch.Generator().manual_seed(7), class_num=6)


def stepper(config: TrainingConfig) -> Stepper:
    return Stepper(network(config), config, Processes(torch.device("cpu")))


def batch(config: TrainingConfig, number: int) -> Batch:
    return BatchReader(open_sides(config.data).train, config).read(number)


def naive_gradients(
    config: TrainingConfig, net: TrackletGait, one: Batch
) -> dict[str, torch.Tensor]:
    """The same step written out, without anything of the stepper."""
    net.train().zero_grad()
    embeddings = net(config.augment.build()(one.silhouettes, one.draws))
    loss = TripletConfig().build()(embeddings, one.labels).loss
    loss = loss + CrossEntropyConfig().build()(net.classify(embeddings)[1], one.labels).loss
    loss.backward()
    return {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}


def test_two_steps_are_momentum_descent_with_decay_on_everything(make_config: MakeConfig) -> None:
    config = make_config(optimiser={"milestones": [1]})
    steps, net = stepper(config), network(config)
    momentum: dict[str, torch.Tensor] = {}
    for iteration, rate in ((0, 0.05), (1, 0.005)):  # the milestone is passed after one step
        gradients = naive_gradients(config, net, batch(config, iteration))
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                decayed = gradients[key] + 5e-4 * parameter
                momentum[key] = 0.9 * momentum[key] + decayed if key in momentum else decayed
                parameter -= rate * momentum[key]
        steps([batch(config, iteration)], iteration)
    for key, parameter in steps.network.named_parameters():
        torch.testing.assert_close(parameter, net.get_parameter(key), rtol=1e-5, atol=1e-6)


def test_two_steps_of_adamw_are_those_of_its_paper(make_config: MakeConfig) -> None:
    decay = 0.02
    config = make_config(
        optimiser={"kind": "adamw", "rate": 0.001, "weight_decay": decay, "milestones": []}
    )
    steps, net = stepper(config), network(config)
    mean = {key: torch.zeros_like(p) for key, p in net.named_parameters()}
    square = copy.deepcopy(mean)
    solid = {key: torch.ones_like(p, dtype=torch.bool) for key, p in net.named_parameters()}
    for t in (1, 2):
        gradients = naive_gradients(config, net, batch(config, t))
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                solid[key] &= gradients[key].abs() > 1e-4
                mean[key] = 0.9 * mean[key] + 0.1 * gradients[key]
                square[key] = 0.999 * square[key] + 0.001 * gradients[key] ** 2
                scale = (square[key] / (1 - 0.999**t)).sqrt() + 1e-8
                parameter -= 0.001 * (mean[key] / (1 - 0.9**t) / scale + decay * parameter)
        steps([batch(config, t)], t - 1)
    for key, parameter in steps.network.named_parameters():
        # where a gradient is nothing but rounding, Adam still makes a step of full size
        ours, expected = parameter[solid[key]], net.get_parameter(key)[solid[key]]
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=2e-5)
    assert sum(int(each.sum()) for each in solid.values()) > 1000


def test_accumulated_batches_give_the_mean_gradient(make_config: MakeConfig) -> None:
    config = make_config(compute={"accumulate": 2})
    steps = stepper(config)
    pair = [batch(config, 0), batch(config, 1)]
    alone = [naive_gradients(config, network(config), each) for each in pair]
    steps(pair, 0)
    for key, parameter in steps.network.named_parameters():
        assert parameter.grad is not None
        expected = (alone[0][key] + alone[1][key]) / 2
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_half_precision_hardly_changes_the_loss(make_config: MakeConfig) -> None:
    losses = {}
    for precision in ("float32", "bfloat16", "float16"):
        config = make_config(compute={"precision": precision})
        losses[precision] = stepper(config)([batch(config, 0)], 0).figures["loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.005)


@pytest.mark.parametrize("channels_last", [False, True])
def test_bfloat16_gives_the_gradients_of_float32(
    channels_last: bool, make_config: MakeConfig
) -> None:
    config = make_config()
    exact = stepper(config)
    for number in range(8):  # fresh batch norms make chaos of any rounding, float32's too
        exact([batch(config, number)], 0)
    rounded = make_config(compute={"precision": "bfloat16", "channels_last": channels_last})
    steps = stepper(rounded)
    steps.network.load_state_dict(exact.network.state_dict())
    one = batch(config, 8)
    expected = naive_gradients(config, copy.deepcopy(exact.network), one)
    steps([one], 0)
    found = {key: p.grad for key, p in steps.network.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert {grad.dtype for grad in found.values()} == {torch.float32}
    a, b = (torch.cat([each[key].flatten() for key in expected]) for each in (found, expected))
    # a bfloat16 has 8 bits, and some 30 layers round forward and back; a wrong one is off by 1
    assert (a - b).norm() < 0.25 * b.norm()


def test_the_heads_compute_in_float32_under_half_precision(make_config: MakeConfig) -> None:
    net, one = network(config := make_config()).train(), batch(config, 0)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = net(one.silhouettes.float() / 255)
        features, logits = net.classify(embeddings)
    assert {x.dtype for x in (embeddings, features, logits)} == {torch.float32}
    assert not torch.equal(embeddings, embeddings.bfloat16().float())


def test_weights_and_losses_stay_float32_under_half_precision(make_config: MakeConfig) -> None:
    steps = stepper(config := make_config(compute={"precision": "bfloat16"}))
    steps([batch(config, 0)], 0)
    assert {p.dtype for p in steps.network.parameters()} == {torch.float32}


def test_an_overflow_of_float16_changes_the_scale_and_nothing_else(
    make_config: MakeConfig,
) -> None:
    config = make_config(compute={"precision": "float16"})
    steps = stepper(config)
    steps.scaler.load_state_dict({**steps.scaler.state_dict(), "scale": 2.0**120})
    before = copy.deepcopy({k: p.detach() for k, p in steps.network.named_parameters()})
    stepped = steps([batch(config, 0)], 0)
    assert not stepped.updated
    assert steps.scaler.get_scale() == 2.0**119
    for key, parameter in steps.network.named_parameters():
        assert torch.equal(parameter, before[key]), key
    steps.scaler.load_state_dict({**steps.scaler.state_dict(), "scale": 2.0**10})
    assert steps([batch(config, 0)], 0).updated


def test_a_loss_that_is_no_number_stops_before_anything_changes(make_config: MakeConfig) -> None:
    config = make_config()
    steps = stepper(config)
    with torch.no_grad():
        steps.network.FCs.fc_bin[0, 0, 0] = torch.nan
    before = copy.deepcopy(steps.network.state_dict())
    with pytest.raises(NotFiniteError, match="batch 3"):
        steps([batch(config, 3)], 0)
    for key, parameter in steps.network.named_parameters():
        assert torch.equal(parameter.isnan(), before[key].isnan()), key


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_loss(make_config: MakeConfig) -> None:
    config = make_config()
    compiled = make_config(compute={"compile": True})
    expected = stepper(config)([batch(config, 0)], 0).figures["loss"]
    found = stepper(compiled)([batch(compiled, 0)], 0).figures["loss"]
    assert found == pytest.approx(expected, rel=1e-4)
