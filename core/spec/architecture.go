package spec

// Distilled reports whether a model has DeiT's distillation token, a second one
// like CLS (Touvron et al., arXiv:2012.12877).
func (a *Architecture) Distilled() bool { return a.GetFamily() == "deit" }

// Placed is the number of tokens before the patches that have a position: CLS,
// and the distillation token.
func (a *Architecture) Placed() int64 {
	if a.Distilled() {
		return 2
	}
	return 1
}
