// Package stylize writes domains to folders: test images damaged, or in another
// look, with their masks and a word about where they are from, origin.json. As
// a source of evaluate.domains such a folder scores as the same damage or look
// does that is made on the way, and it can be looked at, published, and read by
// other tools.
//
// A style network is computed by an engine; all else is pure Go.
package stylize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
)

// Domain is one folder.
type Domain struct {
	Part experiment.Part // with a corruption or a style
	// Size in pixels that images are brought to before; 0: each keeps its own.
	Height, Width int
}

// Written is what became of a domain.
type Written struct {
	Name   string `json:"name"`
	Dir    string `json:"dir"`
	Images int    `json:"images"`
	// There says that it had been written before, of the same images in the same
	// way.
	There bool `json:"there"`
}

// Step is what has happened: so many images of a domain are done.
type Step struct {
	Domain string
	Done   int
	Of     int
}

// Write writes domains below dir, each as a whole or not at all, one after
// another. One that is there already is left; a folder with anything else in it
// is an error. told is called as images are done, one call at a time.
func Write(ctx context.Context, x *data.Index, dir string, domains []Domain, told func(Step)) ([]Written, error) {
	var all []Written
	for _, d := range domains {
		one, err := d.write(ctx, x, filepath.Join(dir, d.Part.Name), told)
		if ctx.Err() != nil {
			return all, errors.New("interrupted")
		}
		if err != nil {
			return all, fmt.Errorf("writing the domain %s: %w", d.Part.Name, err)
		}
		all = append(all, one)
	}
	return all, nil
}

func (d *Domain) write(ctx context.Context, x *data.Index, dir string, told func(Step)) (Written, error) {
	w := Written{Name: d.Part.Name, Dir: dir, Images: d.Part.Files.Len()}
	// The name is that of the folder.
	if err := name.Column(d.Part.Name); err != nil {
		return w, err
	}
	c := &data.Copy{
		Files: d.Part.Files, Size: raster.Size{H: d.Height, W: d.Width},
		Style: d.Part.Data.GetStyle(), Styles: d.Part.Styles, Corruption: d.Part.Data.GetCorruption(),
	}
	origin, err := d.origin(ctx, x, c)
	if err != nil {
		return w, err
	}
	before, err := data.ReadOrigin(dir)
	if err != nil {
		return w, err
	}
	// Another version of loralab writes the same, at one revision of the arithmetic.
	before.Loralab = origin.Loralab
	if w.There = reflect.DeepEqual(before, origin); w.There {
		return w, nil
	}
	var mu sync.Mutex
	done := 0
	step := func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		told(Step{Domain: d.Part.Name, Done: done, Of: w.Images})
	}
	err = replacefile.Dir(dir, false, func(temp string) error {
		masks := step
		if c.Style.GetKind() == stylize.Network {
			masks = func() {} // images take longer
		}
		if err := c.Write(ctx, x, temp, masks); err != nil {
			return err
		}
		if c.Style.GetKind() == stylize.Network {
			if err := network(ctx, c, d.Part.Network, temp, step); err != nil {
				return err
			}
		}
		// The engine reads images by their names.
		if now, err := c.Files.Digest(ctx, x); err != nil {
			return err
		} else if now != origin.Digest {
			return fmt.Errorf("the files below %s changed while they were copied: run the command again", c.Files.Root)
		}
		return origin.Write(temp)
	})
	if errors.Is(err, fs.ErrExist) {
		return w, fmt.Errorf("%s has other files in it: remove it, or choose another directory with -o", dir)
	}
	return w, err
}

func (d *Domain) origin(ctx context.Context, x *data.Index, c *data.Copy) (*data.Origin, error) {
	o, err := data.NewOrigin(ctx, x, c)
	if err != nil {
		return nil, err
	}
	o.Source, o.Layout, o.Part = d.Part.Source, d.Part.Masks, "test"
	if d.Part.Whole {
		o.Part = data.All
	}
	if o.Style != nil {
		o.Style.From = d.Part.Look
	}
	return o, nil
}

// network has an engine pass the images of a copy through a style network.
func network(ctx context.Context, c *data.Copy, weights, dir string, done func()) error {
	req := &spec.StylizeRequest{Style: c.Style, Weights: weights}
	// The engine is told absolute paths: it need not work where we do.
	for i, name := range c.Files.Images {
		image, err := filepath.Abs(filepath.Join(c.Files.Root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		req.Pictures = append(req.Pictures, &spec.Restyled{
			Image: image, Out: filepath.Join(dir, filepath.FromSlash(c.Image(i))), Height: uint32(c.Size.H), Width: uint32(c.Size.W),
		})
	}
	return launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		stream, err := engine.Stylize(ctx, req)
		for err == nil {
			var said *spec.Stylized
			if said, err = stream.Recv(); err != nil {
				break
			}
			if said.Failure != "" {
				return errors.New(said.Failure)
			}
			done()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}
