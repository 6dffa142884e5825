package experiment

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// Domain makes an evaluation of a run on a source that its experiment does not
// name, looked for from root and in the places where those of experiments are.
// Its masks mean what those of the run's data do, and its images are brought to
// the same size; it has the identity that the same domain in the experiment's
// file has. Files that cannot be used are all told in the error.
func Domain(ctx context.Context, x *data.Index, root string, run *spec.RunSpec, name, source string) (*spec.Evaluation, *spec.Files, error) {
	if source == procedural { // trial-language M8
		return nil, nil, errors.New("shapes are drawn for the domains of an experiment only: name a folder of images and masks")
	}
	p, err := scan(ctx, x, scanKey{sourceKey: sourceKey{root, source, "auto"}, domain: true})
	if err != nil {
		return nil, nil, withHint(err)
	}
	files := p["test"]
	if text := problems(data.Check(ctx, x, files, run.GetData())); text != "" {
		return nil, nil, fmt.Errorf("files of %q cannot be used:%s\nrepair or remove them; masks hold the values of those that the run was trained on", source, text)
	}
	digest, err := files.Digest(ctx, x)
	if err != nil {
		return nil, nil, err
	}
	d := proto.CloneOf(run.GetData())
	d.Augment, d.Corruption, d.Style = nil, nil, nil
	d.Splits = map[string]*spec.Split{"test": {Digest: digest, Count: uint32(files.Len())}}
	return &spec.Evaluation{Domain: name, Data: d, Checkpoint: "best", Precision: run.GetTrain().GetPrecision()},
		&spec.Files{Root: files.Root, Images: files.Images, Masks: files.Masks}, nil
}
