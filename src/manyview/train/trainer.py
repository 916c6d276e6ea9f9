"""The state of a training run, and one step of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..errors import ManyViewError, UsageError, WeightsError
from ..models.flops import forward_flops
from ..models.vggt.model import VGGT
from .auxiliary import AuxiliaryHeads
from .config import TrainConfig, config_from_json
from .distill import Teacher
from .elastic import draw_plan
from .grow import grow_from, load_trainable
from .initialise import initialise, set_output_biases
from .model_setup import checkpoint_blocks, compile_blocks, train_only
from .objective import draw_losses, render_draw
from .optimiser import Optimiser
from .running_mean import RunningMean
from .schedule import Position, StepDraw, draw_step, learning_rate, position
from .sharding import clip_gradients, full_tensor, is_sharded, shard, shard_like
from .state import RunState, check_header
from .targets import make_targets
from .workers import Workers

_MOST_BAD_STEPS = 20


class Trainer:
    """State of a run in one process: `step`, `progress` (0 to 1) and `seconds` over all its parts."""

    def __init__(self, config: TrainConfig, workers: Workers, device: str = "cpu") -> None:
        self.config, self.workers, self.device = config, workers, device
        self.step, self.progress, self.seconds, self.scenes, self.frames = 0, 0.0, 0.0, 0, 0
        self.logged_frames, self.flops = 0, 0.0
        self._bad_steps = 0
        if config.step_batches is not None and config.step_batches % workers.size:
            raise UsageError(
                f"step_batches, {config.step_batches}, must be a multiple of the {workers.size} processes"
            )
        self.model = VGGT(config.model)
        self.heads = AuxiliaryHeads(config.model.depth, config.model.dim, config.seed)
        initialise(self.model, config)
        if config.init is not None:
            initial = load_trainable(config.init).float()
            grow_from(self.model, initial, config.init_layers, config.grown_layer_scale)
        self.model.to(device)
        distilled = any(stage.weights.distill > 0 for stage in config.stages)
        if distilled and config.init is None:
            raise UsageError("distill needs initial weights: give init")
        self._teacher = Teacher(self.model) if distilled else None
        train_only(self.model, config.trained)
        self.heads.to(device)
        if config.compile_blocks:
            compile_blocks(self.model)
        if config.checkpoint_activations:
            checkpoint_blocks(self.model)
        self.sharded = config.shard and workers.size > 1
        if self.sharded:
            self._start_from_data()  # while the weights are whole
            shard(self.model, device, workers.size)
            if self._teacher is not None:
                self._teacher.shard(device, workers.size)
        self.optimiser = Optimiser(self.model, self.heads, config.optimiser)
        self._named = {
            **{f"model/{name}": p for name, p in self.model.named_parameters()},
            **{f"heads/{name}": p for name, p in self.heads.named_parameters()},
        }
        model = {name: p for name, p in self._named.items() if name.startswith("model/")}
        self.mean = RunningMean(model, config.ema)

    def start_from_data(self) -> None:
        """Set the output biases to the mean of the first stage's scenes; initial weights stay unchanged."""
        if not self.sharded:
            self._start_from_data()
            self.mean.begin()

    def _start_from_data(self, batches: int = 4) -> None:
        if self.config.init is not None:
            return
        here = position(self.config.stages, 0.0)
        depths, cameras = [], []
        for number in range(batches):
            draw = draw_step(self.config, here, number, -1)
            patch = self.config.model.patch_size
            targets = make_targets(render_draw(draw, patch, self.device), patch)
            depths.append(targets.z_depth[targets.valid].mean())
            cameras.append(targets.pose_encoding.mean((0, 1)))
        set_output_biases(self.model, float(torch.stack(depths).mean()), torch.stack(cameras).mean(0))

    @property
    def done(self) -> bool:
        return self.progress >= 1.0

    @property
    def here(self) -> Position:
        return position(self.config.stages, self.progress)

    def train_step(self) -> dict[str, float]:
        """One optimiser step on new scenes; returns the losses, the learning rate and the gradient norm.

        A step with a gradient that is not finite is skipped; ManyViewError after many in a row.
        """
        config, here = self.config, self.here
        draws = [draw_step(config, here, self.step, number) for number in self._draw_numbers()]
        rate = learning_rate(config.optimiser, self.step, self.progress)
        self.optimiser.set_rate(rate)
        points = self.step % here.stage.points_every == 0
        self.optimiser.zero_grad()
        stage = here.stage
        plan = draw_plan(
            stage.plans,
            config.model.depth,
            config.seed,
            self.step,
            stage.early_share,
            draws[0].plan or stage.plan,
        )
        values = self._gradient(draws, plan, points)
        norm = clip_gradients(self.optimiser.parameters, config.optimiser.clip)
        if math.isfinite(norm):
            self.optimiser.step()
            self.mean.update()
            self._bad_steps = 0
        else:
            self._bad_steps += 1
            if self._bad_steps > _MOST_BAD_STEPS:
                raise ManyViewError(
                    f"training stopped at step {self.step}: the gradient was not finite "
                    f"{self._bad_steps} times in a row; lower the learning rate and resume"
                )
        self.step += 1
        self.flops += sum(self._flops_of(draw, plan, points) for draw in draws)
        self.scenes += sum(len(draw.seeds) for draw in draws) * self.workers.size
        self.frames += sum(len(draw.seeds) * draw.views for draw in draws) * self.workers.size
        if config.steps is not None:
            self.progress = self.step / config.steps
        return {**values, "lr": rate, "grad_norm": norm}

    def _draw_numbers(self) -> range:
        """Which draws of a step belong to this process."""
        rank, size, together = self.workers.rank, self.workers.size, self.config.step_batches
        return range(rank, rank + 1) if together is None else range(rank, together, size)

    def _gradient(self, draws: list[StepDraw], plan: Plan, points: bool) -> dict[str, float]:
        """Compute the mean gradient of the draws (`step_batches`: of all processes) and mean losses."""
        config, weights = self.config, self.here.stage.weights
        rows = []
        for draw in draws:
            losses = draw_losses(
                self.model, self.heads, draw, config, weights, points, self.device, plan, self._teacher
            )
            (losses.total / len(draws)).backward()  # type: ignore[no-untyped-call]
            named = {**losses.terms, "total": losses.total}
            rows.append(torch.stack([term.detach().float() for term in named.values()]))
        mean = torch.stack(rows).mean(0)
        if config.step_batches is not None:
            gradients = [p.grad for p in self.optimiser.parameters if p.grad is not None]
            # Sharded gradients are averaged as they are reduced.
            self.workers.average([*(g for g in gradients if not is_sharded(g)), mean])
        return dict(zip(named, mean.tolist(), strict=True))

    def _flops_of(self, draw: StepDraw, plan: Plan, points: bool) -> float:
        """Operations of a draw in all processes: the backward pass costs twice the forward pass."""
        config = self.config.model
        heads = ("camera", "depth", "points") if points and config.point_head else ("camera", "depth")
        layout = TokenLayout(draw.views, config.special_tokens, draw.grid)
        forward = sum(forward_flops(config, layout, plan, heads).values())
        total = 3 * forward
        if self._teacher is not None and self.here.stage.weights.distill > 0:
            dense = Plan.dense(config.depth)
            total += sum(forward_flops(config, layout, dense, ("camera", "depth")).values())
        return total * len(draw.seeds) * self.workers.size

    def synchronise(self) -> None:
        """Average weights and optimiser moments over the processes."""
        if self.config.step_batches is not None:  # equal gradients kept them equal
            return
        trained = (p.data for p in self._named.values() if p.requires_grad)
        moments = self.optimiser.moments(self._named)
        self.workers.average([*trained, *moments.values(), *self.mean.tensors().values()])

    def _state_tensors(self) -> dict[str, Tensor]:
        weights = {name: p.data for name, p in self._named.items()}
        return {**weights, **self.optimiser.moments(self._named), **self.mean.tensors()}

    def state(self) -> RunState:
        """The state to resume from; equal in all processes after `synchronise`.

        With sharded weights it is collective, and the first process gets the full tensors on the CPU.
        """
        tensors = self._state_tensors()
        if self.sharded:
            kept = {}
            for name, tensor in tensors.items():
                together = full_tensor(tensor)  # one at a time: other processes free each at once
                if self.workers.rank == 0:
                    kept[name] = together.cpu()
            tensors = kept
        return RunState(tensors, self.header())

    def header(self) -> dict[str, Any]:
        """Config and progress, for JSON."""
        return {
            "config": self.config.to_json(),
            "step": self.step,
            "progress": self.progress,
            "seconds": self.seconds,
            "scenes": self.scenes,
            "frames": self.frames,
            "optimiser_steps": self.optimiser.counts(self._named),
        }

    def restore(self, state: RunState) -> None:
        """Continue from a state of the same config, apart from length and pacing; else UsageError."""
        check_header(state, "the run to resume")
        before = config_from_json(state.header["config"], "the run to resume")
        ours, theirs = _lasting(self.config.to_json()), _lasting(before.to_json())
        different = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if different:
            raise UsageError(
                f"the run to resume was started with another config ({', '.join(different)} differ): "
                "give the same config or another output folder"
            )
        try:
            with torch.no_grad():
                for name, parameter in self._named.items():
                    parameter.copy_(shard_like(state.tensors[name], parameter))
            self.optimiser.restore(self._named, dict(state.tensors), state.header["optimiser_steps"])
            self.mean.restore(state.tensors)
        except (LookupError, RuntimeError, ValueError) as error:
            raise WeightsError(f"the state of the run to resume does not fit its config: {error}") from error
        self.step, self.progress = state.header["step"], state.header["progress"]
        self.seconds, self.scenes = state.header["seconds"], state.header["scenes"]
        self.frames = self.logged_frames = state.header["frames"]


_PACING = ("steps", "minutes", "processor_time", "checkpoint_minutes", "evaluate_minutes",
           "evaluate_scenes", "evaluate_views", "stages", "optimiser", "early_layers", "compile_blocks",
           "checkpoint_activations", "shard")  # fmt: skip


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that a resumed run must not change."""
    return {key: value for key, value in config.items() if key not in _PACING}
