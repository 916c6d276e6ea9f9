"""The model in training: its weights, optimiser and progress, one step at a time, saved and restored."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.errors import ManyViewError, UsageError
from manyview.models.flops import forward_flops
from manyview.models.vggt import VGGT
from manyview.train.auxiliary import AuxiliaryHeads
from manyview.train.compiled import compile_blocks
from manyview.train.config import TrainConfig, config_from_json
from manyview.train.elastic import stage_plan
from manyview.train.freeze import train_only
from manyview.train.grow import grow_from_weights
from manyview.train.initialise import initialise, set_output_biases
from manyview.train.objective import draw_losses, render_draw
from manyview.train.optimiser import Optimiser
from manyview.train.schedule import Position, StepDraw, draw_step, learning_rate, position
from manyview.train.state import RunState
from manyview.train.targets import make_targets
from manyview.train.workers import Workers

_MOST_BAD_STEPS = 20


class Trainer:
    """State of a run in one process: `step` done, `progress` (0 to 1) and `seconds` over all its parts."""

    def __init__(self, config: TrainConfig, workers: Workers, device: str = "cpu") -> None:
        self.config, self.workers, self.device = config, workers, device
        self.step, self.progress, self.seconds, self.scenes, self.frames = 0, 0.0, 0.0, 0, 0
        self.logged_frames, self.flops = 0, 0.0
        self._bad_steps = 0
        self.model = VGGT(config.model)
        self.heads = AuxiliaryHeads(config.model.depth, config.model.dim, config.seed)
        initialise(self.model, config)
        if config.init is not None:
            grow_from_weights(self.model, config.init, config.init_layers, config.grown_layer_scale)
        train_only(self.model, config.trained)
        self.model.to(device)
        self.heads.to(device)
        if config.compile_blocks:
            compile_blocks(self.model)
        self.optimiser = Optimiser(self.model, self.heads, config.optimiser)
        self._named = {
            **{f"model/{name}": p for name, p in self.model.named_parameters()},
            **{f"heads/{name}": p for name, p in self.heads.named_parameters()},
        }

    def start_from_data(self, batches: int = 4) -> None:
        """Set the output biases to the mean of the first stage's scenes; weights that were given stay."""
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
        """One optimiser step on freshly drawn scenes; returns the losses, the rate and the gradient norm.

        A step whose gradient is not finite changes nothing; many in a row are an error.
        """
        config, here = self.config, self.here
        draw = draw_step(config, here, self.step, self.workers.rank)
        rate = learning_rate(config.optimiser, self.step, self.progress) * here.stage.lr_scale
        self.optimiser.set_rate(rate)
        points = self.step % here.stage.points_every == 0
        self.optimiser.zero_grad()
        stage = here.stage
        plan = stage_plan(
            stage.plan, stage.plans, config.model.depth, config.seed, self.step, stage.early_share
        )
        losses = draw_losses(
            self.model, self.heads, draw, config, here.stage.weights, points, self.device, plan
        )
        losses.total.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self.optimiser.parameters, config.optimiser.clip))
        if math.isfinite(norm):
            self.optimiser.step()
            self._bad_steps = 0
        else:
            self._bad_steps += 1
            if self._bad_steps > _MOST_BAD_STEPS:
                raise ManyViewError(
                    f"training stopped at step {self.step}: the gradient was not finite "
                    f"{self._bad_steps} times in a row; lower the learning rate and resume"
                )
        self.step += 1
        self.flops += self._flops_of(draw, plan, points)
        self.scenes += len(draw.seeds) * self.workers.size
        self.frames += len(draw.seeds) * draw.views * self.workers.size
        if config.steps is not None:
            self.progress = self.step / config.steps
        values = {name: float(term.detach()) for name, term in losses.terms.items()}
        return {**values, "total": float(losses.total.detach()), "lr": rate, "grad_norm": norm}

    def _flops_of(self, draw: StepDraw, plan: Plan, points: bool) -> float:
        """Operations of a step of all processes: a gradient costs twice the forward pass."""
        config = self.config.model
        heads = ("camera", "depth", "points") if points and config.point_head else ("camera", "depth")
        layout = TokenLayout(draw.views, config.special_tokens, draw.grid)
        forward = sum(forward_flops(config, layout, plan, heads).values())
        return 3 * forward * len(draw.seeds) * self.workers.size

    def synchronise(self) -> None:
        """Mean of weights and optimiser moments over the processes, which makes them equal."""
        trained = (p.data for p in self._named.values() if p.requires_grad)
        self.workers.average([*trained, *self.optimiser.moments(self._named).values()])

    def _state_tensors(self) -> dict[str, Tensor]:
        return {**{name: p.data for name, p in self._named.items()}, **self.optimiser.moments(self._named)}

    def state(self) -> RunState:
        """Everything needed to go on; equal in all processes after `synchronise`."""
        header: dict[str, Any] = {
            "config": self.config.to_json(),
            "step": self.step,
            "progress": self.progress,
            "seconds": self.seconds,
            "scenes": self.scenes,
            "frames": self.frames,
            "optimiser_steps": self.optimiser.counts(self._named),
        }
        return RunState(self._state_tensors(), header)

    def restore(self, state: RunState) -> None:
        """Continue from a state; it must come from the same config, but for length and pacing."""
        before = config_from_json(state.header["config"], "the run to resume")
        ours, theirs = _lasting(self.config.to_json()), _lasting(before.to_json())
        different = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if different:
            raise UsageError(
                f"the run to resume was started with another config ({', '.join(different)} differ): "
                "give the same config or another output folder"
            )
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(state.tensors[name])
        self.optimiser.restore(self._named, dict(state.tensors), state.header["optimiser_steps"])
        self.step, self.progress = state.header["step"], state.header["progress"]
        self.seconds, self.scenes = state.header["seconds"], state.header["scenes"]
        self.frames = self.logged_frames = state.header["frames"]


_PACING = ("steps", "minutes", "checkpoint_minutes", "evaluate_minutes", "evaluate_scenes", "evaluate_views",
           "stages", "optimiser", "early_layers", "compile_blocks")  # fmt: skip


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that a resumed run may not change."""
    return {key: value for key, value in config.items() if key not in _PACING}
