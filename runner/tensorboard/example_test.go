package tensorboard_test

import (
	"fmt"
	"log"
	"os"

	"github.com/loralab/loralab/runner/tensorboard"
)

func Example() {
	path, err := os.MkdirTemp("", "loralab-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(path)
	dir, err := os.OpenRoot(path) // tensorboard --logdir shows it as one run
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	w, err := tensorboard.Create(dir)
	if err != nil {
		log.Fatal(err)
	}
	for step := range 3 {
		loss := 1 / float64(step+1)
		if err := w.Write(tensorboard.Event{Step: int64(step), Values: []tensorboard.Value{tensorboard.Scalar("train/loss", loss)}}); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	err = tensorboard.Read(dir, func(e tensorboard.Event) {
		fmt.Printf("%d %s %.2f\n", e.Step, e.Values[0].Tag, *e.Values[0].Scalar)
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 train/loss 1.00
	// 1 train/loss 0.50
	// 2 train/loss 0.33
}
