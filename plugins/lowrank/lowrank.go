// Package lowrank is what variants with a weight W + s·BA have in common: how
// high a rank makes sense, into how many parts a layer falls, and how PEFT stores
// them. A variant whose weight can
// be written so may be stored as a LoRA even if PEFT does not know it.
package lowrank

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/plugins/sdk"
)

// Check refuses a rank at which BA is as large as W and no longer low.
func Check(rank int, s sdk.Site) []sdk.Problem {
	most := min(s.In, s.Out)
	if rank <= most {
		return nil
	}
	return []sdk.Problem{{
		Param:   "rank",
		Message: fmt.Sprintf("%d is more than the layer's smaller side, %d", rank, most),
		Hint:    fmt.Sprintf("use a rank of at most %d", most),
	}}
}

// CheckBlocks refuses a number k of parts that leaves a remainder of the input
// or the output.
func CheckBlocks(k int, s sdk.Site) []sdk.Problem {
	if k < 1 {
		return []sdk.Problem{{Param: "k", Message: fmt.Sprintf("%d parts, want at least 1", k)}}
	}
	side := ""
	switch {
	case s.In%k != 0:
		side = fmt.Sprintf("%d inputs", s.In)
	case s.Out%k != 0:
		side = fmt.Sprintf("%d outputs", s.Out)
	default:
		return nil
	}
	both, rest := s.In, s.Out
	for rest > 0 {
		both, rest = rest, both%rest
	}
	return []sdk.Problem{{
		Param:   "k",
		Message: fmt.Sprintf("%d does not divide the layer's %s", k, side),
		Hint:    "use " + sdk.DivisorsNear(both, k),
	}}
}

// PEFTConfig is adapter_config.json of a LoRA with scale alpha/rank. There is
// none for the patch embedding, of whose convolution PEFT keeps the kernel's
// shape.
func PEFTConfig(sites []sdk.Site, rank int, alpha, dropout float64) map[string]any {
	for _, s := range sites {
		if s.Kind == sdk.Patch {
			return nil
		}
	}
	return map[string]any{
		"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "lora_dropout": dropout,
		"use_rslora": false, "use_dora": false, "bias": "none", "lora_bias": false, "fan_in_fan_out": false,
		"rank_pattern": map[string]any{}, "alpha_pattern": map[string]any{},
		// Any other start and PEFT changes the backbone when it loads the file.
		"init_lora_weights": true,
	}
}

// Adopted are the settings of a LoRA that PEFT has written.
type Adopted struct {
	Rank           int
	Alpha, Dropout float64
	RSLoRA         bool // the scale is alpha/√rank instead of alpha/rank
}

// PlainAlpha is the alpha with the same scale in the form alpha/rank.
func (a Adopted) PlainAlpha() float64 {
	if a.RSLoRA {
		return a.Alpha * math.Sqrt(float64(a.Rank))
	}
	return a.Alpha
}

// Adopt reads adapter_config.json of a LoRA, with use_dora or without.
func Adopt(config map[string]any, useDoRA bool) (Adopted, []sdk.Problem) {
	s := sdk.ReadSettings(config, "LORA")
	a := Adopted{
		Rank: s.Int("r", 8), Alpha: s.Number("lora_alpha", 8), Dropout: s.Number("lora_dropout", 0),
		RSLoRA: s.Bool("use_rslora", false),
	}
	switch got := s.Bool("use_dora", false); {
	case got && !useDoRA:
		s.Problem("use_dora", "true: the adapter is a DoRA", `use the variant "dora"`)
	case useDoRA && !got:
		s.Problem("use_dora", "false: the adapter is a plain LoRA", `use the variant "lora"`)
	}
	switch start := config["init_lora_weights"]; start {
	case nil, true, false, "gaussian", "orthogonal", "eva": // the backbone stays as it is
	case "mica":
		s.Problem("init_lora_weights", `"mica" trains A only, and this variant has nothing like it`, "")
	default:
		s.Problem("init_lora_weights", fmt.Sprintf("%v: PEFT has changed the weights of the backbone this adapter belongs to", start),
			"save it in PEFT with path_initial_model_for_weight_conversion")
	}
	// How it started, and what has no effect by itself.
	s.Ignore("init_lora_weights", "corda_config", "eva_config", "loftq_config", "lora_ga_config",
		"ensure_weight_tying", "megatron_config", "megatron_core", "qalora_group_size")
	s.Refuse("alpha_pattern", "alpha is one for all layers here")
	s.Refuse("bias", "biases of the backbone that were trained with the adapter are not read")
	s.Refuse("lora_bias", "an update here has no bias")
	s.Refuse("rank_pattern", "the rank is one for all layers here")
	return a, s.Problems()
}
