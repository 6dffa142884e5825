import unittest

from loralab_plugin.testing import adopt, build, linear, stream, trainable
from main import variant

PARAMS = {"rank": 3, "bound": 15, "dropout": 0.0}


class TestDeLoRA(unittest.TestCase):
    def test_counts(self):
        reply = build(variant, PARAMS, linear(24, 24), linear(24, 60, "fc1"))
        self.assertEqual([trainable(p) for p in reply.programs], [3 * (24 + 24) + 1, 3 * (24 + 60) + 1])

    def test_what_does_not_fit_is_told(self):
        for params, site, message in (
            ({**PARAMS, "rank": 9}, linear(24, 7), "more than the layer's smaller side, 7"),
            (PARAMS, stream(24), "has no W"),
        ):
            problems = build(variant, params, site).problems
            self.assertEqual(len(problems), 1)
            self.assertIn(message, problems[0].message)

    def test_peft_is_read_back(self):
        config = build(variant, PARAMS).peft
        self.assertEqual([t.key for t in config.of_program[0].tensors], ["delora_A", "delora_B", "delora_lambda", "delora_w_norm"])
        self.assertEqual(adopt(variant, {"r": 3}).params_json, '{"bound": 15.0, "dropout": 0.0, "rank": 3}')
        self.assertEqual(adopt(variant, {"r": 3, "bias": "all"}).problems[0].param, "bias")


if __name__ == "__main__":
    unittest.main()
