// Bench-files measures how long runner takes to check, divide and hash a data
// set of many small files, on the first start and on the next: whole processes,
// wall clock and processor time.
//
//	bench-files -runner bin/runner -images 50000
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const experiment = `package files

import "github.com/loralab/loralab/schema"

many: schema.#Experiment & {
	backbone: {model: "dinov2-small", freeze: "all"}
	adapter: variant: "none"
	head: kind: "linear"
	data: {source: "%s", size: 28, classes: ["background", "object", "border"]}
	train: {epochs: 1, batch: 8}
	vary: "optim.lr.head": [1e-3, 1e-2]
	seeds: [1, 2]
}
`

func main() {
	images := flag.Int("images", 50000, "so many images, each with a mask")
	size := flag.Int("size", 32, "pixels, height and width of an image")
	runner := flag.String("runner", "bin/runner", "the runner to measure")
	keep := flag.String("dir", "", "make the data set here and keep it; a new folder that is removed by default")
	flag.Parse()
	if err := measure(*runner, *keep, *images, *size); err != nil {
		fmt.Fprintln(os.Stderr, "bench-files:", err)
		os.Exit(1)
	}
}

func measure(runner, dir string, images, size int) error {
	runner, err := filepath.Abs(runner)
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "bench-files-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	start := time.Now()
	if err := write(filepath.Join(dir, "data"), images, size); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "many.cue"), fmt.Appendf(nil, experiment, "data"), 0o666); err != nil {
		return err
	}
	fmt.Printf("%d files in %s (%.1f s)\n", 2*images, dir, time.Since(start).Seconds())
	// What was written within the last two seconds is not trusted to stay.
	time.Sleep(3 * time.Second)
	for _, command := range [][]string{
		{"plan", "many.cue"}, {"data", "check", "data"}, {"data", "check", "many.cue"}, {"validate", "many.cue"},
	} {
		for _, nth := range []string{"first", "second"} {
			if err := run(runner, dir, nth, command); err != nil {
				return err
			}
		}
	}
	return nil
}

// run prints what a command takes.
func run(runner, dir, nth string, command []string) error {
	c := exec.Command(runner, command...)
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	start := time.Now()
	err := c.Run()
	wall := time.Since(start)
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		fmt.Print(out.String())
	} else if err != nil {
		return err
	}
	fmt.Printf("%-7s runner %-20s %6.2f s, %6.2f s of processor time\n",
		nth, strings.Join(command, " "), wall.Seconds(), (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds())
	return nil
}

// write makes images/ and masks/ with PNGs that all differ.
func write(dir string, images, size int) error {
	for _, folder := range []string{"images", "masks"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o777); err != nil {
			return err
		}
	}
	var (
		next  atomic.Int64
		wg    sync.WaitGroup
		fault atomic.Pointer[error]
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < images && fault.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := writePair(dir, i, size); err != nil {
					fault.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := fault.Load(); err != nil {
		return *err
	}
	return nil
}

func writePair(dir string, i, size int) error {
	img, mask := image.NewRGBA(image.Rect(0, 0, size, size)), image.NewGray(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			img.SetRGBA(x, y, color.RGBA{byte(i), byte(i >> 8), byte(i>>16) + byte(x*y), 0xff})
			mask.SetGray(x, y, color.Gray{Y: byte((x/8 + y/8 + i) % 3)})
		}
	}
	for folder, picture := range map[string]image.Image{"images": img, "masks": mask} {
		var b bytes.Buffer
		if err := png.Encode(&b, picture); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, folder, fmt.Sprintf("%06d.png", i)), b.Bytes(), 0o666); err != nil {
			return err
		}
	}
	return nil
}
