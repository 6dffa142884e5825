package wandb

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// Image is a picture in a row. Either Picture or PNG is set.
type Image struct {
	Picture image.Image
	PNG     []byte // the content of a PNG file
	Caption string
	Masks   map[string]Mask // by name, as "prediction" and "ground_truth"
}

// Mask gives each pixel of an image a class.
type Mask struct {
	Labels  *image.Gray      // as large as the image; a pixel is the number of its class
	PNG     []byte           // or the same as the content of a PNG file with 8 bits of gray
	Classes map[uint8]string // names of classes
}

// Table is rows of values under names.
type Table struct {
	Columns []string
	Rows    [][]any
}

// Histogram is counts of values between edges; there is one edge more than counts.
type Histogram struct {
	Counts []float64 `json:"values"`
	Edges  []float64 `json:"bins"`
}

// NewHistogram counts values in bins of equal width. NaN and infinities are left out.
func NewHistogram(values []float64, bins int) *Histogram {
	bins = min(max(bins, 1), 512) // more than 512 are refused
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		low, high = 0, 1
	}
	if low == high {
		low, high = low-0.5, high+0.5
	}
	h := &Histogram{Counts: make([]float64, bins), Edges: make([]float64, bins+1)}
	for i := range h.Edges {
		h.Edges[i] = low + (high-low)*float64(i)/float64(bins)
	}
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			i := int((v - low) / (high - low) * float64(bins))
			h.Counts[min(max(i, 0), bins-1)]++
		}
	}
	return h
}

// value is a logged value as JSON. Media are written as files.
func (r *Run) value(key string, step int64, v any) (string, error) {
	switch v := v.(type) {
	case *Image:
		form, err := r.image(key, step, v)
		if err != nil {
			return "", err
		}
		form["_type"] = "image-file"
		if v.Caption != "" {
			form["caption"] = v.Caption
		}
		return encode(form)
	case []*Image:
		return r.images(key, step, v)
	case *Table:
		return r.table(key, step, v)
	case *Histogram:
		if len(v.Edges) != len(v.Counts)+1 || len(v.Counts) > 512 {
			return "", fmt.Errorf("a histogram has %d counts and %d edges; one edge more than counts, and at most 512 counts, are possible", len(v.Counts), len(v.Edges))
		}
		return encode(map[string]any{"_type": "histogram", "values": v.Counts, "bins": v.Edges})
	}
	return encode(v)
}

// mediaName is the name of a file of a key: letters that paths cannot have become "_".
func mediaName(folder, key string, step int64, content []byte, suffix string) (name, sum string) {
	digest := sha256.Sum256(content)
	sum = hex.EncodeToString(digest[:])
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./", r) {
			return r
		}
		return '_'
	}, key)
	var parts []string
	for part := range strings.SplitSeq(safe, "/") {
		if part != "" && strings.Trim(part, ".") != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		parts = []string{"_"}
	}
	return folder + "/" + strings.Join(parts, "/") + "_" + strconv.FormatInt(step, 10) + "_" + sum[:20] + suffix, sum
}

// media writes a file of a row and names it in the log.
func (r *Run) media(folder, key string, step int64, content []byte, suffix string) (map[string]any, error) {
	name, sum := mediaName(folder, key, step, content, suffix)
	if err := r.write(name, bytes.NewReader(content)); err != nil {
		return nil, err
	}
	if err := r.append(filesRecord(name, wandblog.TypeMedia)); err != nil {
		return nil, err
	}
	return map[string]any{"path": name, "sha256": sum, "size": len(content)}, nil
}

// image writes an image with its masks.
func (r *Run) image(key string, step int64, v *Image) (map[string]any, error) {
	if v == nil {
		return nil, errors.New("an image without a picture")
	}
	content := v.PNG
	if v.Picture != nil {
		var out bytes.Buffer
		if err := png.Encode(&out, v.Picture); err != nil {
			return nil, err
		}
		content = out.Bytes()
	}
	size, err := png.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("an image without a picture in PNG: %w", err)
	}
	form, err := r.media("media/images", key, step, content, ".png")
	if err != nil {
		return nil, err
	}
	form["format"], form["width"], form["height"] = "png", size.Width, size.Height
	if len(v.Masks) == 0 {
		return form, nil
	}
	masks := map[string]any{}
	for name, m := range v.Masks {
		content := m.PNG
		if m.Labels != nil {
			var out bytes.Buffer
			if err := png.Encode(&out, m.Labels); err != nil {
				return nil, err
			}
			content = out.Bytes()
		}
		labels, err := png.DecodeConfig(bytes.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("the mask %s is no PNG: %w", name, err)
		}
		if labels.Width != size.Width || labels.Height != size.Height {
			return nil, fmt.Errorf("the mask %s has %d × %d pixels, its image %d × %d", name, labels.Width, labels.Height, size.Width, size.Height)
		}
		mask, err := r.media("media/images/mask", key, step, content, ".mask.png")
		if err != nil {
			return nil, err
		}
		mask["_type"] = "mask"
		masks[name] = mask
		if err := r.classLabels(key, name, m.Classes); err != nil {
			return nil, err
		}
	}
	form["masks"] = masks
	return form, nil
}

// classLabels writes the names of the classes of a mask to the configuration, once. The
// spelling of the delimiter is W&B's.
func (r *Run) classLabels(key, mask string, classes map[uint8]string) error {
	if len(classes) == 0 {
		return nil
	}
	name := key + "_wandb_delimeter_" + mask
	names := map[string]string{}
	for n, class := range classes {
		names[strconv.Itoa(int(n))] = class
	}
	text, err := encode(map[string]any{"type": "mask/class_labels", "key": name, "value": names})
	if err != nil || r.labels[name] == text {
		return err
	}
	r.labels[name] = text
	return r.append(&wandblog.Record{Config: &wandblog.Config{Update: []*wandblog.Item{
		{NestedKey: []string{"_wandb", "mask/class_labels", name}, ValueJSON: text},
	}}})
}

// maxImages is how many images the server takes under one key of a row.
const maxImages = 108

// images writes several images under one key. All have one size, since the pages of W&B
// draw them so.
func (r *Run) images(key string, step int64, list []*Image) (string, error) {
	if len(list) == 0 || len(list) > maxImages {
		return "", fmt.Errorf("a list of %d images; 1 to %d are possible", len(list), maxImages)
	}
	form := map[string]any{"_type": "images/separated", "format": "png", "count": len(list)}
	var names, captions, masks []any
	captioned, masked := false, false
	for _, v := range list {
		one, err := r.image(key, step, v)
		if err != nil {
			return "", err
		}
		if form["width"] == nil {
			form["width"], form["height"] = one["width"], one["height"]
		} else if form["width"] != one["width"] || form["height"] != one["height"] {
			return "", fmt.Errorf("images of %v × %v and %v × %v pixels in one list", form["width"], form["height"], one["width"], one["height"])
		}
		names, captions, masks = append(names, one["path"]), append(captions, v.Caption), append(masks, one["masks"])
		captioned, masked = captioned || v.Caption != "", masked || one["masks"] != nil
	}
	form["filenames"] = names
	if captioned {
		form["captions"] = captions
	}
	if masked {
		form["all_masks"] = masks
	}
	return encode(form)
}

// table writes a table as a file, and as an artifact of the type run_table, which the pages
// of W&B read.
func (r *Run) table(key string, step int64, t *Table) (string, error) {
	for i, row := range t.Rows {
		if len(row) != len(t.Columns) {
			return "", fmt.Errorf("row %d of a table has %d values for %d columns", i+1, len(row), len(t.Columns))
		}
	}
	rows := t.Rows
	if rows == nil {
		rows = [][]any{}
	}
	text, err := encode(map[string]any{"columns": t.Columns, "data": rows})
	if err != nil {
		return "", err
	}
	form, err := r.media("media/table", key, step, []byte(text), ".table.json")
	if err != nil {
		return "", err
	}
	file := artifactLetters(key) + ".table.json"
	artifact, err := r.artifactRecord("run-"+r.settings.ID+"-"+key, "run_table", []string{"latest"})
	if err != nil {
		return "", err
	}
	artifact.Manifest.Contents = []*wandblog.Content{{
		Path: file, Digest: md5Of([]byte(text)), Size: int64(len(text)),
		LocalPath: filepath.Join(r.dir, "files", filepath.FromSlash(form["path"].(string))),
	}}
	artifact.Digest = manifestDigest(artifact.Manifest.Contents)
	if err := r.append(&wandblog.Record{Artifact: artifact}); err != nil {
		return "", err
	}
	form["_type"], form["ncols"], form["nrows"], form["log_mode"] = "table-file", len(t.Columns), len(t.Rows), "IMMUTABLE"
	form["artifact_path"] = "wandb-client-artifact://" + artifact.ClientID + "/" + file
	form["_latest_artifact_path"] = "wandb-client-artifact://" + artifact.SequenceClientID + ":latest/" + file
	return encode(form)
}

func md5Of(content []byte) string {
	sum := md5.Sum(content)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// manifestDigest is the digest of an artifact: the MD5 of the list of its files.
func manifestDigest(contents []*wandblog.Content) string {
	sorted := slices.Clone(contents)
	slices.SortFunc(sorted, func(a, b *wandblog.Content) int { return strings.Compare(a.Path, b.Path) })
	sum := md5.New()
	sum.Write([]byte("wandb-artifact-manifest-v1\n"))
	for _, c := range sorted {
		fmt.Fprintf(sum, "%s:%s\n", c.Path, c.Digest)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// artifactLetters drops the letters that names of artifacts cannot have.
func artifactLetters(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.", r) {
			return r
		}
		return -1
	}, name)
}

// Artifact is a versioned set of files that a run makes, as a model.
type Artifact struct {
	Name        string
	Type        string // "model", "dataset" and the like
	Description string
	Metadata    map[string]any
	Aliases     []string          // "latest" is added
	Files       map[string]string // files of this machine by their path in the artifact
}

// Artifact adds an artifact. Its files are copied to the directory of the run, so that
// they can change or go afterwards.
func (r *Run) Artifact(a Artifact) error {
	return r.do(func() error {
		aliases := a.Aliases
		if !slices.Contains(aliases, "latest") {
			aliases = append(slices.Clone(aliases), "latest")
		}
		record, err := r.artifactRecord(a.Name, a.Type, aliases)
		if err != nil {
			return err
		}
		record.Description, record.UserCreated = a.Description, true
		if a.Metadata != nil {
			if record.Metadata, err = encode(a.Metadata); err != nil {
				return fmt.Errorf("metadata of the artifact %s: %w", a.Name, err)
			}
		}
		folder := filepath.Join(r.dir, "artifacts", record.ClientID[:12])
		for path, from := range a.Files {
			if !filepath.IsLocal(filepath.FromSlash(path)) {
				return fmt.Errorf("a file of an artifact cannot be called %q", path)
			}
			to := filepath.Join(folder, filepath.FromSlash(path))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			content, err := copyFile(to, from)
			if err != nil {
				return fmt.Errorf("copying a file of the artifact %s: %w", a.Name, err)
			}
			content.Path, content.LocalPath = path, to
			record.Manifest.Contents = append(record.Manifest.Contents, content)
		}
		slices.SortFunc(record.Manifest.Contents, func(a, b *wandblog.Content) int { return strings.Compare(a.Path, b.Path) })
		record.Digest = manifestDigest(record.Manifest.Contents)
		return r.append(&wandblog.Record{Artifact: record})
	})
}

// copyFile copies a file and returns its size and digest.
func copyFile(to, from string) (*wandblog.Content, error) {
	f, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := md5.New()
	if err := writeWhole(to, io.TeeReader(f, sum)); err != nil {
		return nil, err
	}
	info, err := os.Stat(to)
	if err != nil {
		return nil, err
	}
	return &wandblog.Content{Digest: base64.StdEncoding.EncodeToString(sum.Sum(nil)), Size: info.Size()}, nil
}

func (r *Run) artifactRecord(name, kind string, aliases []string) (*wandblog.Artifact, error) {
	if name = artifactLetters(name); name == "" || kind == "" {
		return nil, errors.New("an artifact without a name or a type")
	}
	return &wandblog.Artifact{
		RunID: r.settings.ID, Project: r.settings.Project, Entity: r.settings.Entity, Type: kind, Name: name, Aliases: aliases,
		Finalize: true, ClientID: randomID(128), SequenceClientID: randomID(128),
		Manifest: &wandblog.Manifest{
			Version: 1, StoragePolicy: storagePolicy,
			StoragePolicyConfig: []*wandblog.PolicyConfig{{Key: "storageLayout", ValueJSON: `"V2"`}},
		},
	}, nil
}

const storagePolicy = "wandb-storage-policy-v1"
