package tuna_test

import (
	"fmt"

	"github.com/c-bata/goptuna"
	"github.com/c-bata/goptuna/cmaes"

	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/search/tuna"
)

// goptuna's own samplers in a study on the storage of this package.
func ExampleStorage() {
	study, err := goptuna.CreateStudy(
		"quadratic",
		goptuna.StudyOptionStorage(new(tuna.Storage)),
		goptuna.StudyOptionSampler(goptuna.NewRandomSampler()),
		goptuna.StudyOptionRelativeSampler(cmaes.NewSampler()),
		goptuna.StudyOptionLogger(nil),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := study.Optimize(quad, 150); err != nil {
		fmt.Println(err)
		return
	}
	best, err := study.GetBestParams()
	fmt.Printf("x %.1f, y %.1f, %v\n", best["x"], best["y"], err)
	// Output: x 2.0, y -1.0, <nil>
}

// A sampler of package sampler in a study of goptuna.
func ExampleSampler() {
	s, err := space.New(
		space.Param{Name: "x", Low: -10, High: 10},
		space.Param{Name: "y", Low: -10, High: 10},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	study, err := goptuna.CreateStudy(
		"quadratic",
		goptuna.StudyOptionStorage(new(tuna.Storage)),
		goptuna.StudyOptionSampler(tuna.NewSampler(sampler.TPE{}, s, 1)),
		goptuna.StudyOptionLogger(nil),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := study.Optimize(quad, 80); err != nil {
		fmt.Println(err)
		return
	}
	best, err := study.GetBestParams()
	fmt.Printf("x %.0f, y %.0f, %v\n", best["x"], best["y"], err)
	// Output: x 2, y -1, <nil>
}
