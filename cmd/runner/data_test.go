package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/loralab/loralab/internal/published"
)

// pictures DIR N makes N images of 8×6 pixels below DIR, with masks whose left
// half is 1.
func pictures(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pictures DIR N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	for i := range n {
		shade, mask := image.NewGray(image.Rect(0, 0, 8, 6)), image.NewGray(image.Rect(0, 0, 8, 6))
		for y := range 6 {
			for x := range 8 {
				shade.SetGray(x, y, color.Gray{Y: byte(i)})
				if x < 4 {
					mask.SetGray(x, y, color.Gray{Y: 1})
				}
			}
		}
		for folder, img := range map[string]image.Image{"images": shade, "masks": mask} {
			dir := filepath.Join(ts.MkAbs(args[0]), folder)
			ts.Check(os.MkdirAll(dir, 0o777))
			file, err := os.Create(filepath.Join(dir, fmt.Sprintf("p%d.png", i)))
			ts.Check(err)
			ts.Check(png.Encode(file, img))
			ts.Check(file.Close())
		}
	}
}

// writePublished LAYOUT DIR [MISTAKE] is published.Write.
func writePublished(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: published LAYOUT DIR [MISTAKE]")
	}
	ts.Check(published.Write(args[0], ts.MkAbs(args[1]), strings.Join(args[2:], "")))
}
