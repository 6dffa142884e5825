package experiment

import (
	"strings"
	"testing"
)

// A number that is computed with as another one is a mistake at its place,
// wherever it is given: 1e-400 would count as 0 (trial-language W8, M6), and CUE
// reads 1e999999999 as 1.
func TestNumbersAreComputedWithAsWritten(t *testing.T) {
	for lines, want := range map[string]string{
		"optim: lr: backbone: 1e-400":                           "10:23: optim.lr.backbone is 1e-400: it must be 0 or at least 2.2e-308",
		"optim: clip: 1e400":                                    "10:15: optim.clip is 1e+400: it must be at most 1.8e308",
		"optim: clip: 1e-320":                                   "10:15: optim.clip is 1e-320: it must be 0 or",
		"optim: clip: 1e-200 * 1e-200":                          "10:15: optim.clip is 1e-400: it must be 0 or",
		"optim: clip: 1e999999999":                              "10:15: 1e999999999 is no number",
		"optim: clip: 1.5e-100000":                              "10:15: 1.5e-100000 is no number",
		"optim: clip: 9007199254740993":                         "10:15: optim.clip is 9007199254740993: it must be a number of 53 bits; the nearest is 9007199254740992",
		"optim: clip: 9007199254740994":                         "",
		"optim: betas: [0.9, 1e-400]":                           "10:22: optim.betas.1 is 1e-400",
		"loss: classWeights: animal: 1e-500":                    "10:30: loss.classWeights.animal is 1e-500",
		"data: augment: [{kind: \"flip\", p: 1e-400}]":          "10:36: data.augment.0.p is 1e-400",
		"data: split: seed: 18446744073709551615":               "",
		"data: split: seed: 18446744073709551616":               "10:21: data.split.seed is 18446744073709551616: it must be a whole number from 0",
		"adapter: params: dropout: 1e-400":                      "10:28: adapter.params.dropout is 1e-400: it must be 0 or",
		"cases: a: optim: clip: 1e-400":                         "10:25: optim.clip is 1e-400",
		"cases: a: adapter: params: {rank: 2, dropout: 1e-400}": "10:48: adapter.params.dropout is 1e-400",
		"vary: \"optim.clip\": [1, 1e400, 1e-400]":              "10:26: optim.clip is 1e400: it must be at most",
		"ablate: \"adapter.params.dropout\": [1e-400]":          "10:37: adapter.params.dropout is 1e-400",
		"_n: 1e-300\n\toptim: clip: _n*_n":                      "11:15: optim.clip is 1e-600",
	} {
		text := strings.Replace(sound, "\toptim:", "\t"+lines+"\n\toptim:", 1)
		_, found := loadWith([]string{write(t, text)}, Env{}, world())
		got := located(found)
		if _, after, _ := strings.Cut(got, "e.cue:"); want == "" && got != "" || !strings.HasPrefix(after, want) {
			t.Errorf("%s: got %s, want %s", lines, got, want)
		}
	}
	for set, want := range map[string]string{
		"optim.clip=1e-400":                      "1:18: optim.clip is 1e-400: it must be 0 or",
		"optim.clip=1e999999999":                 "1:18: 1e999999999 cannot be read: 1e999999999 is no number",
		"optim.betas=[0.9,1e-999999999]":         "1:24: [0.9,1e-999999999] cannot be read",
		"adapter.params={rank:2,dropout:1e-400}": "1:38: adapter.params.dropout is 1e-400",
	} {
		_, found := loadWith([]string{write(t, sound)}, Env{Set: []string{set}}, world())
		if got := located(found); !strings.HasPrefix(got, "command line:"+want) {
			t.Errorf("%s: got %s, want %s", set, got, want)
		}
	}
}

// Whole numbers that no float tells apart are different values of an axis.
func TestLargeSeedsOfAnAxis(t *testing.T) {
	e := loadText(t, insert(sound, "\tvary: \"data.split.seed\": [9007199254740992, 9007199254740993]"))[0]
	if got := strings.Join(cells(e), " "); got != "seed=9.007199254740992e+15 seed=9007199254740993" {
		t.Error(got)
	}
}
