"""Recipes: what a TOML file becomes, and which ones are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m2a.errors import TrainingError
from m2a.models import PRESETS
from m2a.training.config import PARTS, TrainingConfig, read_recipe

RECIPES = sorted((Path(__file__).resolve().parents[3] / "recipes").glob("*.toml"))


class TestRecipe:
    def test_all_recipes_hold_out_the_same_photographs(self):
        recipes = [read_recipe(path) for path in RECIPES]
        assert {recipe.parts for recipe in recipes} == {("mask_predictor",), ("restorer",), PARTS}
        assert len({recipe.held_out for recipe in recipes}) == 1
        assert len(recipes[0].held_out) == 6

    def read(self, tmp_path, text):
        (tmp_path / "recipe.toml").write_text(text)
        return read_recipe(tmp_path / "recipe.toml")

    def test_a_recipe_is_read(self, tmp_path):
        text = (
            'model = "base"\nsteps = 7\nheld_out = ["a"]\n'
            "[synthesis]\nsize = 64\nblur_length = [2.0, 9.0]\n"
        )
        config = self.read(tmp_path, text)
        assert (config.model, config.steps) == ("base", 7)
        assert (config.crop, config.held_out) == (64, ("a",))
        assert config.synthesis.blur_length == (2.0, 9.0)

    def test_an_empty_recipe_is_the_default(self, tmp_path):
        assert self.read(tmp_path, "") == TrainingConfig()

    def test_an_unknown_field_is_named(self, tmp_path):
        with pytest.raises(TrainingError, match=r"unknown fields \['stepz'\]"):
            self.read(tmp_path, "stepz = 7\n")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("steps = 0", "steps must be at least 1"),
            ("synthesis = 3", "synthesis must be a table"),
            ("shape = 3", "shape must be a table"),
            ("[shape]\nheight = 3", r"unknown fields \['height'\]"),
            ("[shape]\nblocks = [1, 1]", "blocks must be 4 integers"),
            ("[synthesis]\nsize = 100", "multiple of 32"),
            ("[synthesis]\nsize = [32, 64]", "multiple of 32"),
            ("[synthesis]\nblur_length = [9.0, 2.0]", "blur_length"),
            ("[synthesis]\nblur_length = [9.0]", "blur_length"),
            ("[synthesis]\ncolour = 1", r"unknown fields \['colour'\]"),
            ("parts = []", "parts must be some of"),
            ('parts = ["head"]', "parts must be some of"),
            ('parts = ["restorer", "restorer"]', "parts must be some of"),
            ('straight_through = "false"', "straight_through must be true or false"),
            ("checkpoint_every = 2.5", "checkpoint_every must be an integer"),
            (
                'validation = ["a"]\n[synthesis]\nobjects_probability = 0.0\n'
                "region_probability = 0.0\nshake_probability = 1.0\nstill_probability = 0.0",
                "needs samples with local blur",
            ),
            ('optimizer = "sgd"', "optimizer must be one of"),
            ('mask_precision = "float16"', "mask_precision must be one of"),
            ('restorer_precision = "float16"', "restorer_precision must be one of"),
            ("shaken_weight = -1.0", "shaken_weight"),
            ("reblur_weight = -1.0", "reblur_weight"),
            ("frequency_weight = -1.0", "frequency_weight"),
            ('reconstruction = "l2"', "reconstruction"),
            ("trajectory_weight = -1.0", "trajectory_weight"),
            ('begin_anew = "restorer"', "begin_anew must be a list of names"),
            ('frozen = "restorer"', "frozen must be a list of names"),
            ('held_out = ["a"]\nvalidation = ["a"]', "both in held_out and in validation"),
            ("validation_crops = 0", "validation_crops must be at least 1"),
            ('straight_through = true\nparts = ["restorer"]', "trains both parts"),
            ('false_alarms = 2\nparts = ["restorer"]', "false_alarms must lie in"),
            ("false_alarms = 0.5", r'parts must be \["restorer"\]'),
            ('false_alarm_weight = -1\nparts = ["restorer"]', "must not be negative"),
            ('model = "huge"', "model must be one of"),
            ("learning_rate = 0", "learning_rate must be positive"),
            ("learning_rate = nan", "learning_rate must be positive"),
            ("ema_decay = 1.0", "ema_decay"),
            ('matmul_precision = "low"', "matmul_precision"),
            ('steps = "many"', "recipe"),
            ("warmup = -1", "warmup"),
            ("weight_decay = -1.0", "weight_decay"),
        ],
    )
    def test_an_invalid_value_is_refused_with_the_file(self, tmp_path, text, words):
        with pytest.raises(TrainingError, match=words) as caught:
            self.read(tmp_path, text)
        assert "recipe.toml" in str(caught.value)

    def test_what_is_not_toml_is_refused(self, tmp_path):
        with pytest.raises(TrainingError, match="is not TOML"):
            self.read(tmp_path, "steps: 7")

    def test_a_missing_recipe_is_named(self, tmp_path):
        with pytest.raises(TrainingError, match=r"cannot read the recipe .*none\.toml"):
            read_recipe(tmp_path / "none.toml")

    def test_the_presets_are_the_networks(self):
        assert TrainingConfig(model="base").network == PRESETS["base"]

    def test_a_shape_differs_from_the_preset_in_the_fields_that_it_names(self, tmp_path):
        config = self.read(tmp_path, 'model = "base"\n[shape]\nblocks = [0, 1, 4, 4]\n')
        assert config.network == replace(PRESETS["base"], blocks=(0, 1, 4, 4))
